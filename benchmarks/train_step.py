"""A training step (`take_step`): its time and peak memory beside the same step with other things in the same base.

    python benchmarks/train_step.py [--quick] [--device cuda] [--json FILE] [--into FILE]
    python benchmarks/train_step.py --rounds 9 --only rivals caches

`rivals`: ours (N = 32, r = 4) against a plain PEFT LoRA of rank 128 and the published einsum, in the same loop on the
same data and noise, on random bases of the true architecture (width 1024 and 3072) and on the packaged base at its
default. `caches`: encoded records against frozen encoders inside of every step. `loras`: N from 8 to 64. `workers`: one
process and two, at the same global batch. `options`: gradient checkpointing and micro-batches.

Times are those of interleaved rounds; memory is counted in a pass of its own (`_memory.py`).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from _measure import Claim, Contestant, Rounds, race
from _memory import peaks, table
from _report import Row, accelerated, machine, parser, sourced, start
from _table import profiles, publish, sources, times
from _training import Scene, Shape, contestant, make_run, quiet, wide
from _uncached import tiny
from _workers import Group, crew

from lorweb.training.kernels import use_repeatable_kernels
from lorweb.training.step import Run

MARKS = ("<!-- train_step -->", "<!-- /train_step -->")
TIME = {"peft": 1.10, "einsum in order": 1.0, "einsum best path": 1.0}  # largest time of ours against them
MEMORY = {"peft": 1.2}  # the same of peak memory
CASES = ("rivals", "caches", "loras", "workers", "options")
LORAS = (8, 16, 32, 64)
IN_ORDER = "einsum in order"


@dataclass(frozen=True)
class Setting:
    """What the command line decides."""

    device: torch.device
    precision: str
    rounds: int | None
    quick: bool

    def many(self, usual: int, seconds: float = 0.0) -> Rounds:
        """`usual` rounds at least, unless the command line says how many; more if they fit into the seconds."""
        if self.rounds or self.quick:
            count = self.rounds or 1
            return Rounds(count, count, 0.0)
        return Rounds(usual, 41, seconds)

    def shape(self, batch: int, heads: int = 8, single: int = 2) -> Shape:
        """A base of width 1024 with one double block; a small one if it is to be quick.

        16 x 16 latent tokens a grid, and on a GPU, which such a step would leave idle, the 32 x 32 of a grid of 512 px.
        """
        side = 32 if self.device.type == "cuda" else 16
        return Shape(1, 1, 1, 4, batch, 48) if self.quick else Shape(heads, 1, single, side, batch, 2304)

    def wide(self, shape: Shape) -> Scene:
        """A scene on a random base."""
        return wide(shape, self.device, self.precision)

    def tiny(self, **changes: object) -> tuple[Scene, object]:
        """The scene on the packaged base; a batch of 2 if it is to be quick."""
        given = {"precision": self.precision, **({"batch_size": 2} if self.quick else {}), **changes}
        return tiny(self.device, 2 if self.quick else 16, **given)


def rivals(setting: Setting) -> list[Row]:
    """Ours against PEFT and the einsum, in time and memory."""
    rows = []
    for shape, rounds in (
        (setting.shape(batch=2), setting.many(7, 30)),
        (setting.shape(batch=1, heads=24, single=1), setting.many(5)),
    )[: 1 if setting.quick else 2]:
        runs = _runs(setting.wide(shape), ("ours", "peft", "einsum best path"))
        rows += _against(f"step, {shape.name}", runs, rounds)
    shape = setting.shape(batch=1)  # from left to right it makes [B, S, N, O] of every layer: more would not fit
    runs = _runs(setting.wide(shape), ("ours", IN_ORDER))
    rows += _against(f"step, {shape.name}", runs, setting.many(3))
    scene, _ = setting.tiny()
    runs = _runs(scene, ("ours", "peft", "einsum best path"))
    name = f"step, packaged base, batch {scene.train.batch_size}, N {scene.config.n_loras} r {scene.config.rank}"
    return rows + _against(name, runs, setting.many(15, 20))


def caches(setting: Setting) -> list[Row]:
    """Encoded records against encoders in the step: codec twice, encoder of the query, both text encoders."""
    scene, pictures = setting.tiny(caption_dropout=0.05)
    runs = {"encoded": make_run(scene, "ours"), "encoders in the step": make_run(scene, "ours", pictures)}
    name = f"step, packaged base, batch {scene.train.batch_size}"
    return _race(runs, setting.many(7, 20), [Claim(name, "encoded", "encoders in the step", None)])


def loras(setting: Setting) -> list[Row]:
    """N times as many LoRAs against the fewest: the target is that of linear growth."""
    shape, few = setting.shape(batch=2), LORAS[0]
    scene, runs = setting.wide(shape), {}
    for count in LORAS:
        config = scene.config.model_copy(update={"n_loras": count})
        runs[f"N {count}"] = make_run(replace(scene, config=config), "ours")
    claims = [Claim(f"step, {shape.name}", f"N {count}", f"N {few}", count / few) for count in LORAS[1:]]
    return _race(runs, setting.many(5, 20), claims) + peaks(runs, claims)


def workers(setting: Setting) -> list[Row]:
    """Two processes against one, each group with all cores, and one process with half of them."""
    where, threads = setting.device.type, torch.get_num_threads()
    if where == "cuda" and torch.cuda.device_count() < 2:
        print("workers: two need two GPUs, and are left out")
        return []
    half = max(1, threads // 2)
    changes = {"precision": setting.precision, "batch_size": 2 if setting.quick else 16}
    shape = setting.shape(batch=2)
    scenes = {f"step, packaged base, batch {changes['batch_size']}": ("tiny", changes)}
    if not setting.quick:
        scenes[f"step, {shape.name}"] = ("wide", shape, setting.precision)
    rows = []
    for name, scene in scenes.items():
        groups = [Group(1, threads, where, scene), Group(2, half, where, scene)]
        groups += [Group(1, half, where, scene)] if where == "cpu" and half < threads else []
        with ExitStack() as stack:
            crews = {group.name: Contestant(stack.enter_context(crew(group))) for group in groups}
            one, two, *rest = crews
            claims = [Claim(name, two, rival, None) for rival in (one, *rest)]
            rows += race(crews, setting.many(5, 15), claims)
    return rows


def options(setting: Setting) -> list[Row]:
    """What saves memory, against a plain step: no target, but numbers."""
    shape = setting.shape(batch=4)
    scene = setting.wide(shape)
    chosen: dict[str, dict[str, object]] = {
        "plain": {},
        "gradient_checkpointing": {"gradient_checkpointing": True},
        "accumulate 4": {"accumulate": 4},
        "both": {"gradient_checkpointing": True, "accumulate": 4},
    }
    runs = {name: make_run(scene, "ours", **changes) for name, changes in chosen.items()}
    claims = [Claim(f"step, {shape.name}", name, "plain", None) for name in list(chosen)[1:]]
    return _race(runs, setting.many(3), claims) + peaks(runs, claims)


def _runs(scene: Scene, kinds: Sequence[str]) -> dict[str, Run]:
    return {kind: make_run(scene, kind) for kind in kinds}


def _against(name: str, runs: dict[str, Run], rounds: Rounds) -> list[Row]:
    times = [Claim(name, "ours", rival, TIME[rival]) for rival in runs if rival != "ours"]
    sizes = [Claim(name, "ours", rival, MEMORY.get(rival)) for rival in runs if rival != "ours"]
    return _race(runs, rounds, times) + peaks(runs, sizes)


def _race(runs: dict[str, Run], rounds: Rounds, claims: Sequence[Claim]) -> list[Row]:
    rows = race({name: contestant(run) for name, run in runs.items()}, rounds, claims)
    for run in runs.values():
        run.optimizer.zero_grad(set_to_none=True)
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """Two tables, of times and of memory, and where they come from."""
    timed, counted = ([row for row in rows if key in row] for key in ("ms", "mb"))
    return "\n".join([*times(timed, ours=True), *profiles(timed), "", *table(counted), "", *sources(rows)])


def main(argv: Sequence[str] | None = None) -> None:
    options_ = parser(__doc__, __file__)
    options_.add_argument("--device", default="cpu", help="cpu or cuda")
    options_.add_argument("--precision", choices=["float32", "bfloat16"], help="of the frozen base; default: by device")
    options_.add_argument("--rounds", type=int, help="of every race (default: by its length)")
    options_.add_argument("--only", nargs="+", choices=CASES, help="default: all")
    options_.add_argument("--into", type=Path, help="a Markdown file with the marks, for the tables")
    given = options_.parse_args(argv)
    start(given)
    quiet()
    device = torch.device(given.device)
    if device.type == "cuda":
        use_repeatable_kernels()  # as the worker of the train stage
    given.precision = given.precision or ("bfloat16" if device.type == "cuda" else "float32")
    setting = Setting(device, given.precision, given.rounds, given.quick)
    cases: dict[str, Callable[[Setting], list[Row]]] = {
        "rivals": rivals, "caches": caches, "loras": loras, "workers": workers, "options": options
    }  # fmt: skip
    rows = [row for name in given.only or CASES for row in cases[name](setting)]
    rows = sourced(rows, given, accelerated(machine(given.precision), device))
    publish(rows, markdown(rows), given, MARKS)


if __name__ == "__main__":
    main()
