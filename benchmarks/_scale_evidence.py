"""The tables of docs/scale.md that are evidence: simulation against formulas, real runs, what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from _scale_rows import Assumed
from _scale_stages import Graph
from _scale_tables import number, power, table


def simulation(rows: Sequence[Mapping[str, Any]], graphs: Sequence[Graph]) -> list[str]:
    """Closed formula and simulation, hours of work at every decade; and all stages, each after the last."""
    decades = sorted({row["pairs"] for row in rows})
    lines = []
    for name in dict.fromkeys(row["function"] for row in rows):
        own = [next(r for r in rows if (r["function"], r["pairs"]) == (name, pairs)) for pairs in decades]
        lines.append([name, *(_compared(row) for row in own)])
    names = ("closed_h", "simulated_h", "deaths_h")
    sums = [{name: sum(r[name] for r in rows if r["pairs"] == pairs) for name in names} for pairs in decades]
    beside = [_alone(graph) + graph.light.train_hours / graph.light.train_gpus for graph in graphs]
    whole = [{name: own[name] + more for name in names} for own, more in zip(sums, beside, strict=True)]
    lines.append(["drivers alone, and training", *map(number, beside)])
    lines.append(["**all, one stage after another**", *(_compared({**own, "bound": "actors"}) for own in whole)])
    return table(["hours: closed / simulated / with deaths", *map(power, decades)], lines)


def _alone(graph: Graph) -> float:
    """Hours of the drivers of all stages."""
    return sum(sum(own.values()) for own in graph.driver_seconds().values()) / 3600


def _compared(row: Mapping[str, Any]) -> str:
    hours = " / ".join(number(row[name]) for name in ("closed_h", "simulated_h", "deaths_h"))
    bound = "" if row["bound"] == "actors" else f" ({row['bound']})"
    return f"{hours}{bound}, {100 * (row['simulated_h'] / row['closed_h'] - 1):+.1f} %"


def validation(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Real runs against their predictions."""
    head = ["", "rows", "batch", "actors", "ms a row", "measured, s", "simulated, s", "error", "of the work alone"]
    lines = [
        [
            row["what"],
            str(row["rows"]),
            str(row["batch"]),
            str(row["actors"]),
            f"{row['worker_ms']:g}",
            f"{row['measured_s']:.2f}",
            f"{row['simulated_s']:.2f}",
            f"{100 * row['error']:+.0f} %",
            f"{100 * row['working_error']:+.0f} %",
        ]
        for row in rows
    ]
    return table(head, lines)


def measured(costs_: Mapping[str, Any]) -> list[str]:
    """What was measured, and where."""
    workers, engine = costs_["workers"], costs_["engine"]
    lines = [
        [f"worker, {name}", f"{1000 * own['worker_s']:.1f} ms a row"] for name, own in workers["functions"].items()
    ]
    lines += [
        [f"{what} a PNG of {workers['side']} px", f"{1000 * workers[key]:.1f} ms"]
        for key, what in (("decode_s", "decode"), ("encode_s", "encode"))
    ]
    lines += [[f"PNG, {side}", f"{size / 1000:.0f} kB"] for side, size in workers["png_bytes"].items()]
    for stage, own in costs_["driver"].items():
        cost = f"{1000 * own['row_s']:.2f} ms and {own['row_bytes']:.0f} bytes a row"
        cost += f", {own['growth_s']:.2f} and {own['growth_bytes']:.2f} times those of a row before"
        lines.append([f"driver, {stage}, from {own['from_rows']:,} rows to {own['rows']:,}", cost])
    lines += [[f"driver, {name}", f"{1e-6 / seconds:.0f} MB/s"] for name, seconds in costs_["rates"].items()]
    lines += [[f"engine, {name}", f"{1000 * engine[name]:.3g} ms"] for name in engine if name.endswith("_s")]
    lines.append(["kept of the embedded editor's pairs", f"{costs_['kept']['kept']:.3f} of {costs_['kept']['pairs']}"])
    return table(["what", "measured"], lines)


def assumed(values: Assumed) -> list[str]:
    """Every assumption with its option."""
    own = [(f"`--{field.name.replace('_', '-')}`", getattr(values, field.name), field) for field in fields(values)]
    return table(
        ["option", "value", "is"],
        [
            [name, f"{value:g}" if value.__class__ is float else str(value), field.metadata["help"]]
            for name, value, field in own
        ],
    )
