"""The tables of docs/scale.md: each a list of lines, from the graph at every decade and what was measured."""

import math
from collections.abc import Callable, Sequence
from typing import Final

from _scale_limits import engine_of, limits, reached, sized, total_bytes
from _scale_stages import Graph

DECADES: Final = (10**4, 10**5, 10**6, 10**7, 10**8)
_UNITS: Final = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"))


def power(pairs: int) -> str:
    """A power of ten."""
    return f"10^{round(math.log10(pairs))}"


def amount(count: float) -> str:
    """Bytes."""
    size, unit = next((pair for pair in _UNITS if count >= pair[0]), _UNITS[-1])
    return f"{count / size:.3g} {unit}"


def number(value: float) -> str:
    """Three digits, thousands apart."""
    if value == 0:
        return "0"
    if value >= 100:
        digits = 3 - 1 - math.floor(math.log10(value))
        return f"{round(value, min(0, digits)):,.0f}"
    return f"{value:.3g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(r) + " |" for r in rows)]


def _over(graphs: Sequence[Graph], of: Callable[[Graph], float], show: Callable[[float], str] = number) -> list[str]:
    return [show(of(graph)) for graph in graphs]


def rows_and_hours(graphs: Sequence[Graph]) -> list[str]:
    """Rows, GPU-hours and core-hours."""
    head = ["accepted pairs", *(power(graph.scale.pairs) for graph in graphs)]
    lines = [
        ["`generate.sources_per_task`", *_over(graphs, lambda g: g.scale.per_task)],
        ["candidates of the embedded editor", *_over(graphs, lambda g: g.scale.embedded)],
        ["candidates of Kontext", *_over(graphs, lambda g: g.scale.kontext)],
        ["images to encode", *_over(graphs, lambda g: g.scale.images)],
    ]
    names = [(step.stage, step.name, step.gpus > 0) for step in graphs[0].steps()]
    for on_gpu, unit in ((True, "GPU-hours"), (False, "core-hours")):
        for stage, name, has in names:
            if has == on_gpu:
                own = _over(graphs, lambda g, s=stage, n=name, u=on_gpu: _hours(g, s, n, u))
                lines.append([f"{unit}, {stage}: {name}", *own])
    lines.append(["GPU-hours, train", *_over(graphs, lambda g: g.light.train_hours)])
    lines.append(["**GPU-hours, all**", *_over(graphs, gpu_hours)])
    lines.append(["**core-hours, all**", *_over(graphs, core_hours)])
    return table(head, lines)


def _hours(graph: Graph, stage: str, name: str, on_gpu: bool) -> float:
    (step,) = (step for step in graph.steps() if (step.stage, step.name) == (stage, name))
    return step.gpu_hours if on_gpu else step.core_hours


def gpu_hours(graph: Graph, stages: Sequence[str] = ()) -> float:
    """Of some stages, or of all with training."""
    steps = [step.gpu_hours for step in graph.steps() if not stages or step.stage in stages]
    return sum(steps) + (0.0 if stages else graph.light.train_hours)


def core_hours(graph: Graph, stages: Sequence[str] = ()) -> float:
    """Of some stages, or of all; drivers not counted."""
    return sum(step.core_hours for step in graph.steps() if not stages or step.stage in stages)


def storage(graphs: Sequence[Graph]) -> list[str]:
    """Bytes and files."""
    head = ["accepted pairs", *(power(graph.scale.pairs) for graph in graphs)]
    names = {
        "collect": "data/sources",
        "generate": "data/candidates",
        "filter": "data/pairs",
        "encode": "data/encoded",
        "train": "models",
    }
    outs = [[f"`{path}`", *_over(graphs, lambda g, s=stage: g.outs()[s], amount)] for stage, path in names.items()]
    return table(
        head,
        [
            *outs,
            ["DVC's cache, where it copies", *_over(graphs, lambda g: sum(g.outs().values()), amount)],
            ["journals below `.work`", *_over(graphs, lambda g: sum(g.journals().values()), amount)],
            ["checkpoints and weights in `.work/train`", *_over(graphs, lambda g: g.light.work_bytes, amount)],
            ["**all**", *_over(graphs, total_bytes, amount)],
            ["shards that DVC sees", *_over(graphs, lambda g: g.shards())],
            ["files of all journals", *_over(graphs, lambda g: sum(s.function.batches for s in g.steps()))],
            ["moved between actors and store", *_over(graphs, lambda g: g.moved(), amount)],
        ],
    )


def costs(graphs: Sequence[Graph]) -> list[str]:
    """US dollars."""
    head = ["accepted pairs", *(power(graph.scale.pairs) for graph in graphs)]
    made = ("collect", "generate", "filter")
    per_pair = _over(graphs, lambda g: usd(g, made) / g.scale.pairs, lambda value: f"{value:.2g}")
    return table(
        head,
        [
            ["GPUs", *_over(graphs, lambda g: gpu_hours(g) * g.assumed.gpu_usd)],
            ["cores", *_over(graphs, lambda g: core_hours(g) * g.assumed.core_usd)],
            ["storage, a month", *_over(graphs, stored_usd)],
            ["**per accepted pair**: collect, generate, filter", *per_pair],
            ["**per trained model**: everything", *_over(graphs, lambda g: usd(g) + stored_usd(g))],
            ["of that: encode, train, evaluate", *_over(graphs, lambda g: usd(g) - usd(g, made))],
        ],
    )


def usd(graph: Graph, stages: Sequence[str] = ()) -> float:
    """GPUs and cores of some stages, or of all."""
    assumed = graph.assumed
    return gpu_hours(graph, stages) * assumed.gpu_usd + core_hours(graph, stages) * assumed.core_usd


def stored_usd(graph: Graph) -> float:
    """A month of everything on disk."""
    return total_bytes(graph) / 1e12 * graph.assumed.store_usd


def saturation(graphs: Sequence[Graph]) -> list[str]:
    """Limits in the order in which they are reached."""
    shares = {limit.name: [] for limit in limits(graphs[0])}
    settings = {limit.name: limit.setting for limit in limits(graphs[0])}
    for graph in graphs:
        for limit in limits(graph):
            shares[limit.name].append((graph.scale.pairs, limit.share))
    order = sorted(shares, key=lambda name: reached(shares[name]))
    lines = []
    for name in order:
        own = [f"**{number(share)}**" if share > 1 else number(share) for _, share in shares[name]]
        lines.append([name, *own, f"{reached(shares[name]):.1e}".replace("e+0", "e"), settings[name]])
    return table(["share taken of", *(power(g.scale.pairs) for g in graphs), "full at", "setting that moves it"], lines)


def pools(graphs: Sequence[Graph]) -> list[str]:
    """Actors that are needed, and what the driver does alone."""
    head = ["accepted pairs", *(power(graph.scale.pairs) for graph in graphs)]
    lines = []
    for index, step in enumerate(graphs[0].steps()):
        needed = [str(sized(g.steps()[index], g.assumed, engine_of(g.costs, g.assumed)).actors) for g in graphs]
        lines.append([f"actors of {step.stage}: {step.name}", *needed])
    alone = {
        "bytes": "merging and hashing",
        "rows": "accounts of rows",
        "each": "pairs of a task, each with each",
        "reads": "reads of the merge",
        "dvc": "DVC's hashes",
    }
    for part, what in alone.items():
        own = _over(graphs, lambda g, p=part: sum(s[p] for s in g.driver_seconds().values()) / 3600)
        lines.append([f"hours of the driver alone: {what}", *own])
    more = _over(graphs, lambda g: sum(g.grown_seconds().values()) / 3600)
    lines.append(["hours of the driver alone: accounts of rows, if the measured growth went on", *more])
    return table(head, lines)
