"""The small projects of the fault campaign, in which each stage that works in rows runs undisturbed."""

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, Final

from tests.pipelines.evaluated import make_project
from tests.pipelines.projects import write_params
from tests.soak.deaths import PATIENCE, start

EVALUATE: Final = "evaluate"
DATA: Final = ("collect", "generate", "filter", "encode")  # of one project, in this order
BEFORE: Final = {"encode": ["assemble"]}  # stages without rows, to run before
MODELS: Final = ("lorweb", "lorweb_shuffled", "base", "copy")  # that are evaluated
POOL: Final = {"actors": 2, "cpus": 0.5, "gpus": 0, "batch_size": 2}
PROJECT: Final[dict[str, Any]] = {
    "collect": {"readers": [{"reader": "photos", "crops": 6}, {"reader": "dicebear", "styles": ["thumbs", "clay"],
                                                             "seeds": 24, "first_seed": 0}], "pool": POOL},
    "generate": {"sources_per_task": 8, "editors": [{"editor": "embedded", "tasks": ["colour/*"], "pool": POOL}]},
    "filter": {"scorers": [{"scorer": "embedded", "pool": POOL},
                           {"scorer": "features", "name": "effnet", "encoder": "efficientnet-lite0+style",
                            "pool": POOL}]},
    "assemble": {"train_subjects": [], "test_subjects": 0.3, "val_subjects": 0.2},
    "encode": {"quadrant": 32, "pool": POOL},
}  # fmt: skip


def run(stage: str, folder: Path) -> None:
    """A stage, undisturbed."""
    if start(stage, folder, None).wait(PATIENCE) != 0:
        raise RuntimeError(f"{stage} failed undisturbed; see {(folder / 'log.txt').read_text()[-2000:]}")


def undisturbed(place: Path, stages: list[str]) -> Iterator[tuple[str, Path]]:
    """Those of `stages` that work in rows, each with a project below `place` that it has just run in."""
    folder, tiny = place / "calm", place / "evaluated"
    folder.mkdir()
    write_params(folder, PROJECT)
    last = max((DATA.index(stage) for stage in stages if stage in DATA), default=-1)
    for stage in DATA[: last + 1]:
        for name in [*BEFORE.get(stage, []), stage]:
            run(name, folder)
        if stage in stages:
            yield stage, folder
    if EVALUATE in stages:
        tiny.mkdir()
        with chdir(tiny):
            make_project(tiny, MODELS)
        run(EVALUATE, tiny)
        yield EVALUATE, tiny
