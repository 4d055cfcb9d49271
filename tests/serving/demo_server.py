"""A demo on a tiny random model, served on loopback; and files for it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lorweb.evaluation.neighbours import TaskMixes
from lorweb.kontext.pipeline import AnalogyPipeline
from lorweb.serving.demo import build_page, launch
from lorweb.serving.demo_examples import Example
from lorweb.serving.demo_gate import upload_folder
from lorweb.serving.demo_host import Form, Host
from lorweb.serving.demo_limits import USUAL, Limits
from lorweb.serving.demo_tasks import TrainedTasks
from tests.cluster.head import free_port
from tests.kontext_tiny import drawn_image

LIMITS = replace(USUAL, per_minute=10_000, uploads_per_minute=10_000)
NAMES = ("a", "a2", "b", "c", "c2")
THREE = NAMES[:3]
IMAGES = {name: drawn_image(seed, 64, 44) for seed, name in enumerate(NAMES)}
EXAMPLES = [Example(f"example {i}", *(drawn_image(10 * i + j, 48, 48) for j in range(3))) for i in (1, 2)]


def load(model: Path) -> tuple[AnalogyPipeline, Path]:
    """(pipeline, basis file) of a model folder, without its bar."""
    pipe = AnalogyPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe, model / "basis.safetensors"


def made_tasks(pipe: AnalogyPipeline) -> TrainedTasks:
    """Three tasks with mixes of their own."""
    layers = pipe.mix(IMAGES["a"], IMAGES["a2"], IMAGES["b"]).shape
    instructions = {"colour/dim": "make it dim", "weather/<rain>": "let it rain", "style/far": "far off"}
    means = np.stack([np.full(tuple(layers), value) for value in (0.2, 0.4, 0.9)])
    return TrainedTasks(TaskMixes(tuple(instructions), means), instructions)


@contextmanager
def served(
    model: tuple[AnalogyPipeline, Path], limits: Limits = LIMITS, examples: Sequence[Example] = EXAMPLES
) -> Iterator[str]:
    """The page's address."""
    page: Any = build_page(Host(*model, made_tasks(model[0]), limits, upload_folder()), examples)
    try:
        yield launch(page, ("127.0.0.1", free_port()), limits, wait=False)
    finally:
        page.close()


def save_images(folder: Path) -> dict[str, Path]:
    """`IMAGES` as PNG files."""
    for name, image in IMAGES.items():
        image.save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in NAMES}


def analogy_of(files: Mapping[str, Path]) -> dict[str, Path]:
    """a, a' and b alone."""
    return {name: files[name] for name in THREE}


def form_of(folder: Path, **changes: Any) -> Form:
    """What a visitor sends who gave a, a' and b, and changed some fields."""
    files = {name: {"path": str(path)} for name, path in save_images(folder).items()}
    given = {"a": files["a"], "a2": files["a2"], "b": files["b"], "c": None, "c2": None}
    return Form(**{**given, "t": 0.5, "strength": 1, "seed": 3, "prompt": "", **changes})
