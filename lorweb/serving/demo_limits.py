"""What a visitor may ask of the demo, and what becomes of an upload: an RGB image, or a sentence."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

from PIL import Image

from lorweb.data.decode import decode_rgb
from lorweb.data.rejects import Rejected

MEBIBYTE = 1 << 20
ADVICE = {
    "empty": "choose the file again",
    "not_an_image": "give a PNG, JPEG, WebP, GIF, BMP or TIFF file",
    "too_large": "scale it down first",
    "truncated": "save or download it again",
    "unreadable": "save it as a PNG or JPEG first",
}
MAX_SEED = 2**53 - 1  # what a browser's numbers hold exactly


@dataclass(frozen=True)
class Limits:
    """Of one server.

    file_bytes, pixels: of one image; pixels are counted from its header, before anything is decoded. prompt: its
    letters. waiting: calls in the queue, of all visitors. per_minute: questions of one address. uploads_per_minute:
    images of one address that are looked at. kept, kept_loras: answers and baked LoRAs whose files stay ready for
    download; kept_bytes: of all these files together, beside the newest.
    """

    file_bytes: int
    pixels: int
    prompt: int
    waiting: int
    per_minute: int
    uploads_per_minute: int
    kept: int
    kept_loras: int
    kept_bytes: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"the demo's limit {name} is {value}; it must be at least 1")


USUAL = Limits(
    file_bytes=20 * MEBIBYTE,
    pixels=40_000_000,
    prompt=1000,
    waiting=16,
    per_minute=60,
    uploads_per_minute=60,
    kept=64,
    kept_loras=8,
    kept_bytes=4096 * MEBIBYTE,
)


def read_upload(file: Mapping[str, Any] | None, name: str, limits: Limits, folder: Path) -> Image.Image:
    """The RGB image of an uploaded file: first frame, upright, transparency on white, 16 bit scaled to 8.

    Args:
        file: what the visitor's program says of it, with its `path` on this machine; None where there is none.
        name: what the sentence calls it, as `a'`.
        limits: nothing beyond them is decoded.
        folder: where uploads lie; whether a file outside it exists is not told.

    Raises:
        ValueError: missing, not an upload, too large, or no image; the sentence is shown on the page.
    """
    if not file or not file.get("path"):
        raise ValueError(f"image {name} is missing; drop one into its field, or pick an example")
    path = _inside(str(file["path"]), folder)
    if path is None:
        raise ValueError(f"image {name} was not uploaded; drop it into its field, or pick an example")
    if not path.is_file():
        raise ValueError(f"image {name} is gone from the server; drop it into its field again")
    size = path.stat().st_size
    if size > limits.file_bytes:
        raise ValueError(
            f"image {name} has {size / MEBIBYTE:.1f} MiB, more than the {limits.file_bytes / MEBIBYTE:.1f} MiB that "
            "are taken here; scale it down first"
        )
    try:
        return decode_rgb(path.read_bytes(), limits.pixels)
    except Rejected as why:
        raise ValueError(f"image {name} cannot be used: {_reason(why, limits)}; {ADVICE[why.check]}") from why


def _inside(path: str, folder: Path) -> Path | None:
    """The file that a path leads to, links followed, if it lies in the folder; Gradio checks only some forms' paths."""
    try:
        found = Path(path).resolve()
    except (ValueError, OSError, RuntimeError):  # a zero byte, half a letter, links in a circle
        return None
    return found if found.is_relative_to(folder.resolve()) else None


def _reason(why: Rejected, limits: Limits) -> str:
    if why.check == "too_large" and why.value is not None:
        return f"it has {why.value:,.0f} pixels, more than the {limits.pixels:,} that are taken here"
    if why.check == "not_an_image":
        return "it is no image of a kind that is known here"
    return why.reason


def whole(value: Any, name: str, most: int) -> int:
    """A whole number from 0 to `most`, from what a form sent. Raises ValueError."""
    number = finite(value, name)
    if number != int(number) or not 0 <= number <= most:
        raise ValueError(f"the {name} is {value}; give a whole number from 0 to {most}")
    return int(number)


def finite(value: Any, name: str) -> float:
    """A finite number, from what a form sent. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the {name} is {str(value)[:40]!r}; give a number")
    return float(value)


def within(value: Any, name: str, low: float, high: float) -> float:
    """A number from `low` to `high`, from what a form sent. Raises ValueError."""
    number = finite(value, name)
    if not low <= number <= high:
        raise ValueError(f"the {name} is {number:g}; give a number from {low:g} to {high:g}")
    return number


class Rate:
    """What each address did within the last minute, safe to count in many threads. `clock` gives seconds.

    `did` and `again` are the words of the sentence for who does it too often.
    """

    MINUTE = 60.0

    def __init__(
        self, per_minute: int, clock: Callable[[], float] = monotonic, did: str = "asked", again: str = "ask"
    ) -> None:
        self.per_minute, self.clock, self.did, self.again = per_minute, clock, did, again
        self.asked: dict[str, deque[float]] = {}
        self.lock = Lock()

    def ask(self, address: str) -> None:
        """Count one. Raises ValueError, and does not count it, where the address has come too often."""
        with self.lock:
            now = self.clock()
            self.asked = {who: times for who, times in self.asked.items() if times[-1] > now - self.MINUTE}
            times = self.asked.get(address, deque())
            while times and times[0] <= now - self.MINUTE:
                times.popleft()
            if len(times) >= self.per_minute:
                wait = math.ceil(times[0] + self.MINUTE - now)
                raise ValueError(
                    f"you have {self.did} {len(times)} times within a minute; {self.again} again in {wait} s"
                )
            times.append(now)
            self.asked[address] = times
