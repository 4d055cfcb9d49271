"""What a request may hold: rows of three images and their options, checked before anything is computed.

Nothing is decoded before all sizes are known, from the length of the data and the headers: of each image, and of all
images of a request together.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Final

from PIL import Image

from lorweb.config_errors import shortened, unknown_name
from lorweb.kontext.limits import GUIDANCE, SEED, SERVED_STEPS, STRENGTH
from lorweb.serving.images import BadRequest, decode_image, encoded, opened
from lorweb.terminal import check_characters

MAX_ROWS: Final = 64  # analogies of one request
MAX_REQUEST_PIXELS: Final = MAX_ROWS * 3 * 1024 * 1024  # of all images of a request: full rows of 1024 x 1024
EXACT: Final = 2**53  # whole numbers below it are exact as floats
MAX_PROMPT: Final = 2_000  # characters
IMAGES: Final = ("a", "a2", "b")
OPTIONS: Final = ("prompt", "seed", "strength", "steps", "guidance")


@dataclass(frozen=True)
class Options:
    """What a row may set besides its images; None takes the model's own."""

    prompt: str = ""
    seed: int = 0
    strength: float = 1.0
    steps: int | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class Row:
    """One analogy: encoded images by column, headers checked, and options within their limits."""

    name: str  # `row 3`
    images: dict[str, bytes]
    options: Options

    def decoded(self) -> dict[str, Image.Image]:
        """RGB images by column. Raises BadRequest for data that cannot be decoded."""
        return {name: decode_image(data, f"{self.name}, column {name}") for name, data in self.images.items()}


def read_rows(frame: Any) -> list[Row]:
    """The rows of a DataFrame. Memory: the encoded images, never the decoded ones.

    Raises:
        BadRequest: unknown, missing or doubled column, too many rows or none, an image that is none or beyond the
            limits, or an option out of range.
    """
    if not hasattr(frame, "columns"):
        raise BadRequest(f"the request is a {type(frame).__name__}; send rows with the columns {', '.join(IMAGES)}")
    _check_columns(list(frame.columns))
    if not 1 <= len(frame) <= MAX_ROWS:
        raise BadRequest(f"{len(frame)} rows were sent; send 1 to {MAX_ROWS}")
    rows, pixels = [], 0
    for index, record in enumerate(frame.to_dict("records")):
        name, images = f"row {index}", {}
        for column in IMAGES:
            where = f"{name}, column {column}"
            images[column] = encoded(record[column], where)
            pixels += math.prod(opened(images[column], where).size)
        if pixels > MAX_REQUEST_PIXELS:
            raise BadRequest(
                f"the images up to {name} have {pixels} px together, more than the limit of {MAX_REQUEST_PIXELS} px of "
                "a request; send fewer rows at once, or scale the images down"
            )
        rows.append(Row(name, images, _options(record, name)))
    return rows


def _check_columns(columns: list[Any]) -> None:
    known = (*IMAGES, *OPTIONS)
    for name, times in Counter(map(str, columns)).items():
        if name not in known:
            raise BadRequest(unknown_name("column", shortened(name).strip("'"), known))
        if times > 1:
            raise BadRequest(f"the column '{name}' is there {times} times; send it once")
    missing = [name for name in IMAGES if name not in columns]
    if missing:
        raise BadRequest(f"the column '{missing[0]}' is missing; every row needs {', '.join(IMAGES)}")


def _options(record: Mapping[str, Any], row: str) -> Options:
    given = {name: record[name] for name in OPTIONS if name in record and not _absent(record[name])}
    checked: dict[str, Any] = {}
    for name, value in given.items():
        where = f"{row}, column {name}"
        if name == "prompt":
            checked[name] = _prompt(value, where)
        elif name == "strength":
            checked[name] = float(_within(value, where, *STRENGTH))
        elif name == "guidance":
            checked[name] = float(_within(value, where, *GUIDANCE))
        else:
            checked[name] = _whole(value, where, *(SEED if name == "seed" else SERVED_STEPS))
    return Options(**checked)


def _absent(value: object) -> bool:
    """Optional columns come back from JSON and pandas as None or NaN where a row leaves them out."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def _prompt(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_PROMPT:
        raise BadRequest(f"{name} must be text of at most {MAX_PROMPT} characters, got {shortened(value)}")
    try:
        check_characters(value, name)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    return str(value)


def _whole(value: Any, name: str, low: int, high: int) -> int:
    number = _number(value)
    if isinstance(number, float) and high > EXACT and EXACT <= abs(number) <= high + 1:
        raise BadRequest(
            f"{name} came as {number:.0f}, rounded, as pandas does beside a row without it; give it in every row, "
            f"or less than {EXACT}"
        )
    if number is None or number != number // 1 or not low <= number <= high:
        raise BadRequest(f"{name} is {shortened(value)}; it must be a whole number from {low} to {high}")
    return int(number)


def _within(value: Any, name: str, low: float, high: float) -> int | float:
    number = _number(value)
    if number is None or not low <= number <= high:
        raise BadRequest(f"{name} is {shortened(value)}; it must be a number from {low:g} to {high:g}")
    return number


def _number(value: Any) -> int | float | None:
    """A finite number as it is, whole ones exactly; None for anything else."""
    if isinstance(value, bool) or type(value).__name__ == "bool":  # numpy's has the same name
        return None
    if isinstance(value, Integral):
        return int(value)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
