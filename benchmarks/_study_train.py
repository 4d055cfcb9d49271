"""One training of the study, in this process: a setting is the project's parameters with some changed.

Every setting has a folder of its own below .work/study/settings with its params.yaml and data/: links to the project's
data, or what the assemble and encode stages make there where the setting changes their parameters. All share .work, so
that no image is encoded twice and no answer drawn twice.
"""

import json
import time
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from lorweb.config import load_params, parse_params
from lorweb.kontext.load import load_base
from lorweb.records import stable_id
from lorweb.training.course import restore_published
from lorweb.training.dataset import Encoded, load_train_pairs
from lorweb.training.loop import History, Keeper, train
from lorweb.training.sampler import AnalogySampler
from lorweb.training.step import Run, StepResult
from pipelines import assemble, encode
from pipelines._rows import in_process
from pipelines._stage import write_text
from pipelines._train_plan import WEIGHTS, TrainPlan, variant_folder
from pipelines._train_run import held_out_sets, make_run
from pipelines.profile import merge
from pipelines.train import make_plan

DONE = "done.json"
SHOWN = 100  # steps between two lines
DATA = ("pairs", "analogies", "encoded")


@dataclass(frozen=True)
class Setting:
    """`changes`: sections of params.yaml. `tasks`: share of the trained tasks that training may draw from."""

    name: str
    changes: Mapping[str, Any]
    tasks: float

    @classmethod
    def parse(cls, name: str, given: Mapping[str, Any] | None) -> "Setting":
        """One entry of the settings file. Raises ValueError for a section that the study cannot change."""
        changes = dict(given or {})
        share = float(changes.pop("tasks", 1.0))
        strange = sorted(set(changes) - {"assemble", "encode", "train"})
        if strange or not 0 < share <= 1:
            raise ValueError(
                f"setting '{name}' changes {strange or f'tasks to {share}'}; it may change keys of assemble, encode "
                "and train, and tasks to a share above 0 and up to 1"
            )
        return cls(name, changes, share)


def prepare(setting: Setting, project: Path, work: Path) -> Path:
    """The setting's folder, with parameters and data.

    Raises:
        ValueError: keys or values that no parameter has.
        FileNotFoundError: the project has not been encoded.
    """
    given = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params = merge(given, setting.changes)
    parse_params(params, f"setting '{setting.name}'")
    data = {name: params[name] for name in ("seed", "assemble", "encode")}
    own = data != {name: yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))[name] for name in data}
    folder = work / "settings" / f"{setting.name}-{stable_id(json.dumps(params, sort_keys=True))}"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (work / "work").mkdir(exist_ok=True)
    write_text(folder / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    _link(folder / ".work", work / "work")
    for name in DATA[: 1 if own else 3]:
        if not (project / "data" / name).is_dir():
            raise FileNotFoundError(f"no {project / 'data' / name}; run the pipeline up to encode first")
        _link(folder / "data" / name, project / "data" / name)
    if own and not (folder / "data" / "encoded").is_dir():
        with chdir(folder):
            assemble.main()
            encode.main(in_process)
    return folder


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink():
        path.symlink_to(target.resolve(), target_is_directory=True)


@dataclass(frozen=True)
class Trained:
    """Where the weights lie, and what training said of itself."""

    weights: Path
    facts: Mapping[str, Any]  # steps, seconds, parameters, loss, validation


def train_once(setting: Setting, folder: Path, variant: str, seed: int) -> Trained:
    """Train, go on where a killed run stands, or find what is finished.

    The seed draws initial weights, analogies, noise and timesteps; data and their splits stay.

    Raises:
        ValueError: the data do not fit the parameters, or the setting needs a GPU.
    """
    with chdir(folder):
        plan = make_plan(load_params().model_copy(update={"seed": seed}))
    if plan.config.gpus_per_worker:
        raise ValueError(f"setting '{setting.name}' asks for GPUs; the study trains in its own process, on the CPU")
    if setting.tasks < 1:
        plan = replace(
            plan, work=f"{plan.work}-{setting.tasks:g}", identity={**plan.identity, "tasks": str(setting.tasks)}
        )
    home = variant_folder(plan, variant)
    if not (home / DONE).is_file():
        started = time.perf_counter()
        facts = _train(setting, plan, variant)
        seconds = round(time.perf_counter() - started, 1)
        write_text(home / DONE, json.dumps({**facts, "seconds": seconds}, indent=1) + "\n")
    return Trained(home / WEIGHTS, json.loads((home / DONE).read_text(encoding="utf-8")))


def _train(setting: Setting, plan: TrainPlan, variant: str) -> dict[str, Any]:
    precision = torch.bfloat16 if plan.config.precision == "bfloat16" else torch.float32
    base, encoded = load_base(plan.base, precision, torch.device("cpu")), Encoded.load(Path(plan.encoded))
    run = make_run(plan, variant, base, encoded)
    if setting.tasks < 1:
        run = replace(run, sampler=sampler_of_some(plan, encoded, setting.tasks))
    keeper = Keeper(run.folder, {**plan.identity, "variant": variant})
    history = train(
        run, held_out_sets(plan, encoded), keeper, _Shown(f"{setting.name} {variant} seed {plan.seed}", run)
    )
    step = restore_published(run, keeper, history)
    (run.folder / WEIGHTS).mkdir(parents=True, exist_ok=True)
    with run.averaged():
        run.variant.save(run.folder / WEIGHTS, {"steps": str(step)})
    tail = history.curves["loss"][-max(1, history.step // 10) :]
    return {
        "steps": step,
        "parameters": run.variant.size,
        "loss": sum(tail) / len(tail),
        "validation": history.validation,
        "health": history.health,
    }


def sampler_of_some(plan: TrainPlan, encoded: Encoded, share: float) -> AnalogySampler:
    """The plan's sampler on a share of its tasks, chosen by hash of their names: a larger share holds a smaller."""
    pairs = load_train_pairs(Path(plan.analogies))
    tasks = sorted({pair.task for pair in pairs}, key=lambda task: stable_id("study", task))
    kept = set(tasks[: max(1, round(share * len(tasks)))])
    chosen = [pair for pair in pairs if pair.task in kept]
    return AnalogySampler(chosen, plan.seed, plan.config.batch_size, plan.config.caption_dropout, encoded.pool)


class _Shown:
    """A line now and then."""

    def __init__(self, name: str, run: Run) -> None:
        self.name, self.run, self.started, self.first = name, run, time.perf_counter(), 0

    def stepped(self, step: int, result: StepResult) -> None:
        self.first = self.first or step
        if step % SHOWN == 0:
            rate = (step - self.first + 1) / (time.perf_counter() - self.started)
            left = (self.run.config.steps - step) / rate
            print(
                f"{self.name}: step {step}, loss {result.loss:.4f}, {rate:.1f} steps/s, {left:.0f} s left", flush=True
            )

    def measured(self, history: History) -> None:
        rows = [row for row in history.validation if row["step"] == history.step]
        losses = ", ".join(f"{row['split']} {row['loss']:.4f}" for row in rows)
        print(f"{self.name}: validation after {history.step}: {losses}", flush=True)

    def saved(self, history: History) -> None:
        """Nobody asks."""
