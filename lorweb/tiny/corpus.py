"""What the tiny base learns from: instruction edits of packaged images, training tasks only, stored at quadrant size.

Avatars come from their own range of seeds and photos from a fixed list, so that every subject that the
pipeline tests on is one the base never saw. The corpus is made once, in parts; a part that exists is not made again.
"""

import fnmatch
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorweb.data.avatars import BASE
from lorweb.data.catalogue import Catalogue, Task, load_catalogue
from lorweb.data.decode import decode_rgb
from lorweb.data.readers.dicebear import DicebearConfig, DicebearReader
from lorweb.data.readers.photos import PhotosConfig, PhotosReader
from lorweb.data.rejects import Rejected
from lorweb.records import stable_id

TRAINED_PHOTOS: Final = ("astronaut", "chelsea", "rocket", "retina", "ihc", "coins", "china", "hubble")
FIRST_SEED: Final = 1_000_000  # of the avatars; the pipeline's start at 0
SOURCE_SIZE: Final = 128  # px, at which edits are made
SEEDS_PER_PART: Final = 12  # avatars of each style
CROPS_PER_PART: Final = 6  # of each photo
MAX_PIXELS: Final = 50_000_000


@dataclass(frozen=True)
class CorpusSpec:
    """How much to make: `parts` files, each with `pairs_per_task` pairs of every training task, `quadrant` px."""

    parts: int
    pairs_per_task: int
    quadrant: int
    held_out: bool = False  # other subjects: for the metrics of the base, never for training


def training_tasks(catalogue: Catalogue) -> list[Task]:
    """Tasks that nothing holds out, in catalogue order; a task's index in this list is its number in the corpus."""
    return [task for task in catalogue.tasks if task.holdout == "none"]


def make_corpus(folder: Path, spec: CorpusSpec, workers: int) -> None:
    """Write the missing parts, each by one process."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [part for part in range(spec.parts) if not _path(folder, part).is_file()]
    with ProcessPoolExecutor(max_workers=workers) as pool:
        for path in pool.map(_make_part, [(folder, part, spec) for part in missing]):
            print(f"corpus: {path}", flush=True)


def read_corpus(folder: Path) -> dict[str, Tensor]:
    """All parts: before and after `[M, 3, S, S]` uint8, task `[M]` int64.

    Raises:
        FileNotFoundError: no part at all.
        ValueError: a part was made from another catalogue, so that its task numbers mean other tasks.
    """
    paths = sorted(folder.glob("part-*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"no corpus in {folder}; make it with `python -m lorweb.tiny.pretrain corpus`")
    for path in paths:
        _refuse_other_catalogue(path)
    parts = [load_file(path) for path in paths]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _refuse_other_catalogue(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        made_from = (file.metadata() or {}).get("catalogue")
    if made_from != load_catalogue().sha256:
        raise ValueError(
            f"{path} was made from catalogue {made_from}, not the present one; delete it and make it again"
        )


def _path(folder: Path, part: int) -> Path:
    return folder / f"part-{part:04d}.safetensors"


def _make_part(job: tuple[Path, int, CorpusSpec]) -> Path:
    folder, part, spec = job
    before, after, task = [], [], []
    for index, pair in edited_pairs(part, spec):
        before.append(shrink(pair[0], spec.quadrant))
        after.append(shrink(pair[1], spec.quadrant))
        task.append(index)
    tensors = {
        "before": torch.from_numpy(np.stack(before)).permute(0, 3, 1, 2).contiguous(),
        "after": torch.from_numpy(np.stack(after)).permute(0, 3, 1, 2).contiguous(),
        "task": torch.tensor(task),
    }
    path, temporary = _path(folder, part), folder / f"part-{part:04d}.tmp"
    save_file(tensors, temporary, metadata={"catalogue": load_catalogue().sha256})
    temporary.replace(path)
    return path


def shrink(image: Image.Image, size: int) -> np.ndarray:  # type: ignore[type-arg]
    """Squashed to `size` x `size` px, uint8 [size, size, 3]."""
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS), dtype=np.uint8)


def edited_pairs(part: int, spec: CorpusSpec) -> Iterator[tuple[int, tuple[Image.Image, Image.Image]]]:
    """(task number, (image, its edit)) of one part, at the source's size; no test subject, no held-out task."""
    from lorweb.data.editors import EmbeddedEditor

    editor, sources = EmbeddedEditor(), _sources(part, spec.held_out)
    for index, task in enumerate(training_tasks(load_catalogue())):
        rng = np.random.default_rng(int(stable_id("corpus", part, spec.held_out, task.id), 16))
        fitting = [s for s in sources if any(fnmatch.fnmatch(s["category"], pattern) for pattern in task.fits)]
        assert fitting, f"no source fits task {task.id}"
        order = [i for _ in range(3 + spec.pairs_per_task // len(fitting)) for i in rng.permutation(len(fitting))]
        made = 0
        for source in (fitting[i] for i in order):
            if made == spec.pairs_per_task:
                break
            try:
                edited = editor.edit(task, source, int(rng.integers(2**31)))
            except Rejected:
                continue  # an edit that does not apply to this subject: the next one
            yield index, (decode_rgb(source["image"], SOURCE_SIZE**2), edited)
            made += 1


def _sources(part: int, held_out: bool) -> list[dict[str, Any]]:
    """Fresh avatars and photo crops for one part; held out: other seeds, and photos not in `TRAINED_PHOTOS`."""
    first = FIRST_SEED * (2 if held_out else 1) + part * SEEDS_PER_PART
    avatars = DicebearReader(
        DicebearConfig(reader="dicebear", styles=tuple(BASE), seeds=SEEDS_PER_PART, first_seed=first)
    )
    photos = PhotosReader(PhotosConfig(reader="photos", crops=CROPS_PER_PART * (part + 1)))
    wanted = [
        location
        for location in photos.locations()
        if (location.origin.split(":")[1] in TRAINED_PHOTOS) != held_out
        and int(location.origin.split(":")[2]) >= CROPS_PER_PART * part
    ]
    rows = [photos.read(location, SOURCE_SIZE, MAX_PIXELS) for location in wanted]
    rows += [avatars.read(location, SOURCE_SIZE, MAX_PIXELS) for location in avatars.locations()]
    return [dict(row) for row in rows]
