"""The page of the filter: real candidates with known bad pairs among them, its counts and its pictures."""

import json
import re
import shutil
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from lorweb.data.shards import read_table
from lorweb.records import PAIR, REJECT
from pipelines import filter as stage
from pipelines._rows import in_process
from tests.benchmark_cases import module, put_on_the_path
from tests.pipelines.projects import ROOT, write_params

pytestmark = pytest.mark.slow


def test_the_page_counts_and_shows_what_left_and_what_stayed(project):
    checks = [
        {"score": "change", "min": 0.05, "max": None, "edit_types": []},
        {"score": "subject", "min": -0.5, "max": None, "edit_types": ["colour"]},
    ]
    write_params(project, {"filter": {"checks": checks}})
    stage.main(in_process)
    first = Path("reports/filter.html").read_text(encoding="utf-8")
    kept = Counter(row["edit_type"] for row in read_table(project / "data/pairs", PAIR).to_pylist())
    rejects = read_table(project / "data/pairs/rejects", REJECT).to_pylist()
    assert kept and any(row["check"] == "change_min" for row in rejects)
    for kind, number in kept.items():
        total = sum(row["edit_type"] == kind for row in read_table(project / "data/candidates", PAIR).to_pylist())
        assert f"<td>{kind}</td><td>{total}</td><td>{number}</td>" in first
    refused = [row for row in rejects if row["check"] == "change_min"]
    for row in refused[:3]:
        assert f"pair {row['id']}" in first, "a refused pair is shown"
    assert first.count("<svg") >= 2 and first.count("data:image/jpeg") >= 2 * 6
    assert not re.findall(r"(?:src|href)=\"(?!data:)", first), "it loads nothing from anywhere"
    stage.main(in_process)
    assert Path("reports/filter.html").read_text(encoding="utf-8") == first


def test_known_bad_pairs_are_measured_by_the_benchmark(project, monkeypatch, capsys):
    """The script of benchmarks/ on the small project: every kind has its line, and pairs without change are refused."""
    shutil.copy(ROOT / "params.yaml", project / "params.yaml")
    put_on_the_path(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["filter_quality", "--per-kind", "3", "--json", "quality.json"])
    monkeypatch.setattr(stage, "main", partial(stage.main, in_process))
    module("filter_quality").main()
    monkeypatch.chdir(project)
    found = {row["name"]: row for row in json.loads(Path("quality.json").read_text(encoding="utf-8"))}
    printed = capsys.readouterr().out
    kinds = ("no_op", "wrong_edit", "wrong_subject", "swapped", "corrupted")
    shares = {f"{kind}: {what}" for kind in (*kinds, "all kinds") for what in ("recall", "precision")}
    checks = {name: row for name, row in found.items() if name.startswith("check ")}
    assert set(found) == {*shares, *checks, "good pairs refused"}
    assert sum(row["n"] for row in checks.values()) == found["all kinds: precision"]["n"]
    assert found["no_op: recall"]["ratio"] == 1.0 and found["no_op: recall"]["n"] >= 3
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in found.values())
    assert all(f"| {name} |" in printed for name in found)
