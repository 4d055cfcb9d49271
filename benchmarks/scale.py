"""From 10^4 to 10^8 pairs on paper: hours, bytes, dollars, what saturates first, and a simulation that checks it.

python benchmarks/scale.py [--into docs/scale.md]         the tables, from benchmarks/results/scale/
python benchmarks/scale.py --measure workers rates driver task kept      measure again what the tables rest on
python benchmarks/scale.py --simulate                     simulate every function at every scale again
python benchmarks/scale.py --validate [--quick]           the real row engine on Ray against the simulation
python benchmarks/scale.py --gpu-usd 4 --kept-kontext 0.4 the tables under other assumptions

Prices and shares that nobody measured are options. The profile is `paper`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

import _report
import _scale_evidence as evidence
import _scale_tables as tables
from _scale_limits import engine_of, simulated
from _scale_model import Function
from _scale_rows import Assumed
from _scale_stages import Graph
from _table import paste

from lorweb.profiles import load_profile

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = Path(__file__).parent / "results" / "scale"
COUNTED: Final = ("light", "kept")  # the same on every machine
PARTS: Final = ("workers", "rates", "driver", "light", "kept", "task")
QUICK: Final = (Function(rows=64, batch=8, actors=2, worker_s=0.02), Function(rows=64, batch=1, actors=2, worker_s=0.0))


def read(name: str) -> Any:
    """One of the result files. Raises FileNotFoundError where it was not made."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def write(name: str, tree: Any) -> None:
    """Write a result file."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def graphs(costs: Mapping[str, Any], assumed: Assumed) -> list[Graph]:
    """The paper's profile at every decade."""
    params = load_profile(ROOT, "paper")
    return [Graph(params, costs, assumed, pairs) for pairs in tables.DECADES]


def measure(parts: Sequence[str], assumed: Assumed) -> None:
    """Measure some parts, and keep the others."""
    import _scale_driver
    import _scale_growth
    import _scale_light
    import _scale_measure

    makers = {
        "workers": _scale_measure.workers,
        "rates": _scale_measure.rates,
        "driver": lambda: _scale_driver.slopes(_scale_growth.SIZES),
        "light": lambda: _scale_light.as_json(
            _scale_light.count(load_profile(ROOT, "paper"), assumed.gpu, assumed.utilisation)
        ),
        "task": _scale_measure.pairs_of_a_task,
        "kept": lambda: _scale_measure.kept(ROOT),
    }
    for part in parts:
        keep(part, makers[part](), _where())


def keep(part: str, found: Any, where: str) -> None:
    """Put a part into the costs, with the machine that gave it."""
    costs = read("costs") if (RESULTS / "costs.json").is_file() else {"machines": {}}
    costs[part] = found
    costs["machines"][part] = where
    write("costs", costs)


def _where() -> str:
    from _scale_validate import load

    return f"{_report.machine()}; {load()}"


def validate(quick: bool) -> list[dict[str, Any]]:
    """Measure the engine, predict, run; the rows and the engine's costs become results unless `quick`."""
    import ray
    from _scale_validate import PREDICTED, measure_engine, validate

    where = _where()
    engine, rows = measure_engine(*QUICK) if quick else measure_engine()
    for row in validate([replace(QUICK[0], actors=1)] if quick else PREDICTED, engine):
        rows.append(row)
        print(f"{row['rows']} rows, {row['actors']} actors: {100 * row['error']:+.1f} %", flush=True)
    ray.shutdown()
    print("\n".join(evidence.validation(rows)))
    if not quick:
        keep("engine", asdict(engine), where)
        write("validation", {"machine": where, "rows": rows})
    return rows


def page(costs: Mapping[str, Any], assumed: Assumed) -> dict[str, str]:
    """Every table by its mark."""
    decades, checked, proved = graphs(costs, assumed), read("simulated"), read("validation")
    machines = [f"- {part}: {where}" for part, where in costs["machines"].items() if part not in COUNTED]
    made = {
        "hours": tables.rows_and_hours(decades),
        "bytes": tables.storage(decades),
        "usd": tables.costs(decades),
        "limits": tables.saturation(decades),
        "pools": tables.pools(decades),
        "simulation": evidence.simulation(checked, decades),
        "validation": [*evidence.validation(proved["rows"]), "", f"On {proved['machine']}."],
        "assumed": evidence.assumed(assumed),
        "measured": [*evidence.measured(costs), "", *machines],
    }
    return {name: "\n".join(lines) for name, lines in made.items()}


def assumptions(given: argparse.Namespace) -> Assumed:
    """From the options."""
    return Assumed(**{field.name: getattr(given, field.name) for field in fields(Assumed)})


def options() -> argparse.ArgumentParser:
    """One option for each assumption."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--measure", nargs="*", choices=PARTS, default=[], help="measure these parts again")
    made.add_argument("--simulate", action="store_true")
    made.add_argument("--validate", action="store_true")
    made.add_argument("--quick", action="store_true", help="with --validate: few rows, nothing is kept")
    made.add_argument("--json", type=Path, help="write the tables there by name, or the rows of --validate")
    made.add_argument("--into", type=Path, help="a Markdown file with the marks of the tables")
    for field in fields(Assumed):
        name, usual = f"--{field.name.replace('_', '-')}", field.default
        made.add_argument(name, type=type(usual), default=usual, help=field.metadata["help"])
    return made


def main(argv: Sequence[str] | None = None) -> None:
    given = options().parse_args(argv)
    assumed = assumptions(given)
    if given.measure:
        measure(given.measure, assumed)
    elif given.validate:
        rows = validate(given.quick)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    elif given.simulate:
        engine = engine_of(read("costs"), assumed)
        write("simulated", [row for graph in graphs(read("costs"), assumed) for row in simulated(graph, engine)])
    else:
        made = page(read("costs"), assumed)
        for name, text in made.items():
            print(f"\n{name}\n\n{text}")
            if given.into:
                paste(text, given.into, (f"<!-- {name} -->", f"<!-- /{name} -->"))
        if given.json:
            given.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
