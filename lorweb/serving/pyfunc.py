"""The served model: rows of three images in, one image out. No MLflow in here except the signature.

Requests may come from many threads at once. One thread of the service's own draws, row by row, since the basis sits in
the transformer; rows of several requests take turns, so that a small request does not wait for all of a large one.
"""

import base64
import io
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from lorweb.serving.images import BadRequest, decode_image
from lorweb.serving.rows import IMAGES, OPTIONS, Options, Row, read_rows

if TYPE_CHECKING:
    from lorweb.kontext.request import AnalogyOutput

ANSWERS: Final = ("image", "settings")
__all__ = ["ANSWERS", "AnalogyService", "BadRequest", "decode_image", "encode_image", "example", "signature"]


@dataclass
class Patience:
    """How long a request waits; the work on it stops at the next denoising step when nobody waits any more."""

    seconds: float | None
    until: float | None
    gone: bool = False

    @classmethod
    def of(cls, seconds: float | None) -> "Patience":
        """From now on; None waits without end."""
        return cls(seconds, None if seconds is None else time.monotonic() + seconds)

    @property
    def left(self) -> float | None:
        """Seconds, 0 at the end."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())

    def check(self, *_: int) -> None:
        """A callback of the pipeline. Raises TimeoutError when the time is over or the caller is gone."""
        if self.gone or self.left == 0.0:
            raise TimeoutError(
                f"the request was not done within {self.seconds or 0:g} s; send fewer rows or steps, or serve with a "
                "longer --timeout"
            )


class AnalogyService:
    """`predict` for one loaded pipeline, from any number of threads."""

    def __init__(self, folder: Path) -> None:
        """Load the model folder. Raises as `AnalogyPipeline.from_pretrained` does."""
        from lorweb.kontext.pipeline import AnalogyPipeline
        from lorweb.provenance import SERVED, model_facts, surroundings

        self.pipe = AnalogyPipeline.from_pretrained(folder)
        self.pipe.set_progress_bar_config(disable=True)
        self.facts = {**model_facts(SERVED, folder / "basis.safetensors"), **surroundings(self.pipe, "none")}
        # one thread for all: torch keeps a team of helpers, and the C library a heap, for every thread that computes
        self._turns = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lorweb")

    def predict(self, rows: Any, seconds: float | None = None) -> Any:
        """DataFrame with columns a, a2, b (PNG, JPEG or WebP: bytes, or base64 text) and optionally prompt, seed,
        strength, steps, guidance -> DataFrame, in the order and with the index of the rows, with columns image (base64
        PNG that says in its text chunk `lorweb` how to make it again) and settings (the same facts as JSON text).

        Every row is checked before the first one is computed. `seconds` is how long the caller waits.

        Raises:
            BadRequest (a ValueError): unknown or missing column, too many rows, an image that is no image or beyond the
                limits, or an option out of range; names the row.
            TimeoutError: it took longer than `seconds`.
        """
        import pandas as pd

        patience = Patience.of(seconds)
        asked = read_rows(rows)
        for row in asked:
            self._check_images(row)
        answers = [self._in_turn(self._answer, row, patience) for row in asked]
        return pd.DataFrame(answers, columns=list(ANSWERS), index=rows.index)

    def _check_images(self, row: Row) -> None:
        from lorweb.kontext.canvas import Exemplar

        images = row.decoded()
        try:
            Exemplar.of(images["a"], images["a2"], self.pipe.rule)
        except ValueError as error:
            raise BadRequest(f"{row.name}: {error}") from error

    def _in_turn(
        self, work: Callable[[Row, Patience], tuple[str, str]], row: Row, patience: Patience
    ) -> tuple[str, str]:
        future = self._turns.submit(work, row, patience)
        try:
            return future.result(patience.left)
        except TimeoutError:
            patience.gone = True
            patience.check()
            raise
        finally:
            patience.gone = patience.gone or not future.done()  # an interrupted caller leaves no work behind
            future.cancel()

    def _answer(self, row: Row, patience: Patience) -> tuple[str, str]:
        patience.check()
        images, options = row.decoded(), row.options
        output = self.pipe(
            images["a"],
            images["a2"],
            images["b"],
            prompt=options.prompt,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            seed=options.seed,
            strength=options.strength,
            callback=patience.check,
        )
        facts = self._facts(images, options, output)
        return encode_image(output.images[0], facts), json.dumps(facts, sort_keys=True)

    def _facts(self, images: Mapping[str, Image.Image], options: Options, output: "AnalogyOutput") -> dict[str, Any]:
        from lorweb.basis.mixes import mix_hash
        from lorweb.provenance import facts_of_one

        settings = {
            **asdict(options),
            "steps": options.steps or self.pipe.steps,
            "guidance": self.pipe.guidance if options.guidance is None else options.guidance,
        }
        mix = None if output.mix_BLN is None else mix_hash(output.mix_BLN[0])
        return facts_of_one(settings, self.facts, images, mix)


def signature() -> Any:
    """The MLflow signature of `predict`.

    Types are left to `predict`, which says what is wrong with a value: MLflow would cast 1.5 steps to 1 without a word,
    refuse rows of which some leave an option out, and take images as text or as bytes, not both.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    columns = [ColSpec(AnyType(), name) for name in IMAGES]
    columns += [ColSpec(AnyType(), name, required=False) for name in OPTIONS]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec("string", name) for name in ANSWERS]))


def example() -> Any:
    """A valid request of one row, small enough to be stored with every version."""
    import pandas as pd

    colours = {"a": (200, 80, 60), "a2": (60, 80, 200), "b": (200, 160, 60)}
    images = {name: encode_image(Image.new("RGB", (32, 32), colour)) for name, colour in colours.items()}
    return pd.DataFrame([{**images, "prompt": "", "seed": 0, "strength": 1.0}])


def encode_image(image: Image.Image, facts: Mapping[str, Any] | None = None) -> str:
    """RGB image -> base64 text of its PNG, which carries `facts` as the command's pictures do."""
    from lorweb.provenance import png_with_facts

    png = io.BytesIO()
    image.save(png, "PNG")
    return base64.b64encode(png.getvalue() if facts is None else png_with_facts(image, facts)).decode("ascii")
