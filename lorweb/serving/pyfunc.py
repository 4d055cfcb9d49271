"""The served model: rows of three images in, one image out, within limits. No MLflow in here except the signature."""

import base64
import binascii
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

MAX_ROWS: Final = 64  # analogies of one request
MAX_BYTES: Final = 20_000_000  # of one encoded image
MAX_PIXELS: Final = 16_777_216  # of one decoded image: 4096 x 4096
MAX_PROMPT: Final = 2_000  # characters
MAX_STEPS: Final = 200
IMAGES: Final = ("a", "a2", "b")
OPTIONS: Final = ("prompt", "seed", "strength", "steps")
FORMATS: Final = ("PNG", "JPEG", "WEBP")


@dataclass(frozen=True)
class Options:
    """What a row may set besides its images; `steps` None takes the model's own."""

    prompt: str = ""
    seed: int = 0
    strength: float = 1.0
    steps: int | None = None


class AnalogyService:
    """`predict` for one loaded pipeline."""

    def __init__(self, folder: Path) -> None:
        """Load the model folder. Raises as `AnalogyPipeline.from_pretrained` does."""
        from lorweb.kontext.pipeline import AnalogyPipeline

        self.pipe = AnalogyPipeline.from_pretrained(folder)

    def predict(self, rows: Any) -> Any:
        """DataFrame with columns a, a2, b (PNG, JPEG or WebP: bytes, or base64 text) and optionally prompt, seed,
        strength, steps -> DataFrame with column image (base64 PNG), in the order and with the index of the rows.

        Every row is checked before the first one is computed.

        Raises:
            ValueError: unknown or missing column, too many rows, an image that is no image or beyond the limits, or an
                option out of range; names the row.
        """
        import pandas as pd

        _check_columns(list(rows.columns), len(rows))
        records = rows.to_dict("records")
        asked = [(_images(record, i), _options(record, i)) for i, record in enumerate(records)]
        return pd.DataFrame({"image": [self._answer(*row) for row in asked]}, index=rows.index)

    def _answer(self, images: dict[str, Image.Image], options: Options) -> str:
        out = self.pipe(
            images["a"],
            images["a2"],
            images["b"],
            prompt=options.prompt,
            num_inference_steps=options.steps,
            seed=options.seed,
            strength=options.strength,
        )
        return encode_image(out.images[0])


def signature() -> Any:
    """The MLflow signature of `predict`; images may be of any type: text (REST) and bytes (Python) are both taken."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    kinds = {"prompt": "string", "seed": "long", "strength": "double", "steps": "long"}
    columns = [ColSpec(AnyType(), name) for name in IMAGES] + [
        ColSpec(kinds[name], name, required=False) for name in OPTIONS
    ]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec("string", "image")]))


def example() -> Any:
    """A valid request of one row, small enough to be stored with every version."""
    import pandas as pd

    colours = {"a": (200, 80, 60), "a2": (60, 80, 200), "b": (200, 160, 60)}
    images = {name: encode_image(Image.new("RGB", (32, 32), colour)) for name, colour in colours.items()}
    return pd.DataFrame([{**images, "prompt": "", "seed": 0, "strength": 1.0}])


def encode_image(image: Image.Image) -> str:
    """RGB image -> base64 text of its PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_image(value: object, name: str) -> Image.Image:
    """Encoded bytes or base64 text -> RGB image; size limits hold before anything is decoded.

    Raises:
        ValueError: not text or bytes, not base64, not an image of the accepted formats, too big, or truncated.
    """
    if isinstance(value, str):
        if len(value) > MAX_BYTES * 4 // 3 + 4:
            raise ValueError(
                f"{name} has {len(value)} characters of base64; at most {MAX_BYTES} bytes of image are accepted"
            )
        try:
            value = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"{name} is not base64 ({error}); send base64 text of a PNG, JPEG or WebP file") from error
    if not isinstance(value, bytes):
        raise ValueError(f"{name} is a {type(value).__name__}; send bytes or base64 text of a PNG, JPEG or WebP file")
    if len(value) > MAX_BYTES:
        raise ValueError(
            f"{name} has {len(value)} bytes, more than the limit of {MAX_BYTES}; scale or compress it first"
        )
    return _open(value, name)


def _open(data: bytes, name: str) -> Image.Image:
    from lorweb.kontext.images import as_rgb

    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)  # reads the header only
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError) as error:
        raise ValueError(f"{name} is not an image this service reads; send a PNG, JPEG or WebP file") from error
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"{name} has {image.width}x{image.height} px, more than the limit of {MAX_PIXELS} px; scale it down first"
        )
    return as_rgb(image, name)


def _check_columns(columns: list[str], count: int) -> None:
    missing = [name for name in IMAGES if name not in columns]
    unknown = [name for name in columns if name not in IMAGES + OPTIONS]
    if missing or unknown:
        raise ValueError(
            f"columns are {columns}: missing {missing}, unknown {unknown}; needed are {', '.join(IMAGES)}, "
            f"allowed besides are {', '.join(OPTIONS)}"
        )
    if not 1 <= count <= MAX_ROWS:
        raise ValueError(f"{count} rows were sent; send 1 to {MAX_ROWS}")


def _images(record: Mapping[str, Any], row: int) -> dict[str, Image.Image]:
    return {name: decode_image(record[name], f"row {row}, column {name}") for name in IMAGES}


def _options(record: Mapping[str, Any], row: int) -> Options:
    given = {name: record[name] for name in OPTIONS if name in record and not _absent(record[name])}
    prompt = given.get("prompt", "")
    if not isinstance(prompt, str) or len(prompt) > MAX_PROMPT:
        raise ValueError(f"row {row}, column prompt must be text of at most {MAX_PROMPT} characters")
    steps = given.get("steps")
    return Options(
        prompt,
        _whole(given.get("seed", 0), f"row {row}, column seed", 0, 2**63 - 1),
        _finite(given.get("strength", 1.0), f"row {row}, column strength"),
        None if steps is None else _whole(steps, f"row {row}, column steps", 1, MAX_STEPS),
    )


def _absent(value: object) -> bool:
    """Optional columns come back from JSON and pandas as None or NaN where a row leaves them out."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def _whole(value: Any, name: str, low: int, high: int) -> int:
    number = _finite(value, name)
    if number != int(number) or not low <= number <= high:
        raise ValueError(f"{name} is {value}; it must be a whole number from {low} to {high}")
    return int(value)


def _finite(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {value!r}; it must be a number") from error
    if not math.isfinite(number) or abs(number) > 1e19:
        raise ValueError(f"{name} is {value}; it must be a finite number")
    return number
