"""docs/options.md: every option, its default and meaning, and where it ran.

An option ran if a stage, or the worker of training, reached its end on parameters that use it. Those say so in a file
that LORWEB_RECORD_OPTIONS names; `make options` runs the tests so. Evidence is kept in tests/golden/options_ran.json:

    python -m tests.options_table .work/options.jsonl     take up what a file says, and dvc.lock; write the page anew
    python -m tests.options_table                         write the page anew
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import yaml

from tests.options_meaning import meanings
from tests.options_model import Option, all_options, used

ROOT: Final = Path(__file__).parents[1]
PAGE, EVIDENCE = ROOT / "docs" / "options.md", ROOT / "tests" / "golden" / "options_ran.json"
PLACES: Final = ("cpu", "gpu")
MAKE_RUN: Final = "`make run`"
BY_HAND: Final = "by hand"
NOT_BY_A_WORKER: Final = ("train.workers", "train.gpus_per_worker")  # Ray Train's, which a worker alone does not start
Evidence = dict[str, dict[Option, str]]  # place -> option -> where it ran
HEAD: Final = """# Options, and where they ran

Every key of `params.yaml`, every choice and switch of it, and the first evidence that it took part in a stage that
reached its end: `make run`, a test, or never. A list has a row for each kind of its entries. Made by `make options`,
which runs the tests and writes down what they ran; nothing here is typed in. A part that is tested outside its stage (a
scorer alone, say) does not count. [P] in a meaning: the paper's choice.
"""


def read_evidence() -> Evidence:
    """What is committed; options that no longer exist, and tests that no longer do, are left out."""
    known = set(all_options())
    tree = json.loads(EVIDENCE.read_text(encoding="utf-8")) if EVIDENCE.is_file() else {}
    found: Evidence = {place: {} for place in PLACES}
    for place in PLACES:
        for text, where in tree.get(place, {}).items():
            option = Option(*text.split(" = "))
            if option in known and exists(where):
                found[place][option] = where
    return found


def exists(where: str) -> bool:
    """Whether a test is still there."""
    if where in (MAKE_RUN, BY_HAND):
        return True
    file, name = where.split("::")
    path = ROOT / "tests" / file
    return path.is_file() and re.search(rf"^def {name}\(", path.read_text(encoding="utf-8"), re.M) is not None


def recorded(lines: Iterable[str]) -> Iterator[tuple[str, Option, str]]:
    """(place, option, where) of the lines that stages wrote."""
    for line in lines:
        told = json.loads(line)
        where = _test(told["test"])
        for option in sorted(used(told["stage"], told["params"])):
            on_gpu = told["cuda"] and _asks_for_gpu(told["params"].get(told["stage"]))
            needs_gpu = option.key.rsplit(".", 1)[-1] in ("gpus", "gpus_per_worker") and option.value == "> 0"
            alone = told.get("worker", False) and option.key in NOT_BY_A_WORKER
            if not alone and (on_gpu or not needs_gpu):
                yield ("gpu" if on_gpu else "cpu"), option, where


def _test(told: str) -> str:
    """`tests/a/test_b.py::test_c[x] (call)` -> `a/test_b.py::test_c`."""
    if not told:
        return BY_HAND
    file, name = told.split(" (", maxsplit=1)[0].split("::")[:2]
    return f"{file.removeprefix('tests/')}::{name.split('[')[0]}"


def _asks_for_gpu(section: Any) -> bool:
    if isinstance(section, Mapping):
        return any(
            (key in ("gpus", "gpus_per_worker") and value > 0) or _asks_for_gpu(value) for key, value in section.items()
        )
    return isinstance(section, list) and any(map(_asks_for_gpu, section))


def locked() -> Iterator[tuple[str, Option, str]]:
    """What `make run` ran, as DVC wrote it down with the results; on CPUs."""
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        for option in used(name, stage["params"]["params.yaml"]):
            yield "cpu", option, MAKE_RUN


def merge(evidence: Evidence, more: Iterable[tuple[str, Option, str]]) -> None:
    """Keep one place for each option: `make run`, else the first test by its name, so that order plays no part."""

    def rank(where: str) -> tuple[bool, bool, str]:
        return where != MAKE_RUN, where == BY_HAND, where

    for place, option, where in more:
        known = evidence[place].get(option)
        if known is None or rank(where) < rank(known):
            evidence[place][option] = where


def write_evidence(evidence: Evidence) -> None:
    """Sorted, one option a line."""
    tree = {place: {" = ".join(option): found[option] for option in sorted(found)} for place, found in evidence.items()}
    EVIDENCE.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def page(evidence: Evidence) -> str:
    """The whole of docs/options.md."""
    default = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    chosen = {option for section in default for option in used(section, default)}
    rows, meaning = all_options(), meanings()
    parts = [HEAD, _counts(rows, evidence)]
    for section, found in groupby(rows, key=lambda option: option.key.split(".")[0].split("[")[0]):
        lines = [f"\n## {section}\n", "| option | value | default | CPU | GPU | meaning |", "|---|---|---|---|---|---|"]
        for key, options in groupby(found, key=lambda option: option.key):
            for number, option in enumerate(options):
                told = [evidence[place].get(option, "never") for place in PLACES]
                mark = "yes" if option in chosen else ""
                words = meaning.get(key, "") if number == 0 else ""
                cells = [f"`{key}`", f"`{option.value}`" if option.value != "any" else "", mark, *told, words]
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def _counts(rows: list[Option], evidence: Evidence) -> str:
    cpu, gpu = ({option for option in rows if option in evidence[place]} for place in PLACES)
    return f"\n{len(rows)} options: {len(cpu)} ran on a CPU, {len(gpu)} on a GPU, {len(set(rows) - cpu - gpu)} never.\n"


def main(files: list[str]) -> None:
    """Take up files of records, and write the page."""
    evidence = read_evidence()
    for file in files:
        merge(evidence, recorded(Path(file).read_text(encoding="utf-8").splitlines()))
    if files:
        merge(evidence, locked())
        write_evidence(evidence)
    PAGE.write_text(page(evidence), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
