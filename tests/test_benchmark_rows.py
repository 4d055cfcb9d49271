"""How the benchmarks measure: rounds, intervals, rows and the table, without a look at a real time."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmark_cases import module, put_on_the_path


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_the_path(monkeypatch)


def test_a_row_by_hand():
    measure = module("_measure")
    seconds = {"ours": [0.2, 0.6, 0.4], "rival": [0.1, 0.2, 0.4]}
    row = measure.compare(seconds, measure.Claim("what", "ours", "rival", 1.5), calls=10)
    assert (row["ratio"], row["met"], row["n"]) == (2.0, False, 3)
    assert (row["ms"], row["rival_ms"]) == (40.0, 20.0)
    assert row["low"] == 1.0 and row["high"] == 3.0


def test_a_row_without_a_target_judges_nothing():
    measure, table = module("_measure"), module("_table")
    x = torch.randn(8, 8)
    contestants = {name: measure.Contestant(lambda: x @ x) for name in ("big / small", "rival")}
    (row,) = measure.race(contestants, measure.Rounds(1, 1, 0.0), [measure.Claim("what", "big / small", "rival", None)])
    assert row["target"] is None and row["met"] is None and "profile" not in row
    assert table.contestant(row) == "big / small"
    head, _, line = table.times([row], ours=True)
    assert line.startswith("| what | big / small | rival | ")
    assert line.count("|") == head.count("|")


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=1, max_size=12), st.floats(0.1, 10))
def test_the_interval_holds_the_ratio_and_units_do_not_matter(times, unit):
    measure = module("_measure")
    claim = measure.Claim("what", "ours", "rival", 1.0)
    plain = {"ours": [a for a, _ in times], "rival": [b for _, b in times]}
    row = measure.compare(plain, claim)
    assert row["low"] <= row["ratio"] <= row["high"]
    other = measure.compare({name: [t * unit for t in spent] for name, spent in plain.items()}, claim)
    assert other["ratio"] == pytest.approx(row["ratio"], rel=1e-3, abs=2e-4)


def test_rounds_are_interleaved_and_each_starts_with_another():
    measure = module("_measure")
    seen: list[str] = []
    contestants = {
        name: measure.Contestant(lambda name=name: seen.append(name), before=lambda: seen.append("clear"))
        for name in "abc"
    }
    contestants["b"] = measure.Contestant(lambda: seen.append("b"), warm=lambda: seen.append("warm b"))
    seconds = measure.interleaved(contestants, measure.Rounds(3, 9, 0.0))
    assert {name: len(spent) for name, spent in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    assert "".join(name for name in seen if name != "clear") == "a" + "warm b" + "c" + "abc" + "bca" + "cab"
    assert seen.count("clear") == 2 * 4
    assert len(measure.interleaved(contestants, measure.Rounds(1, 4, 60.0))["a"]) == 4


def test_parts_of_long_runs_are_interleaved_and_their_times_add_up():
    measure = module("_measure")
    seen: list[str] = []

    def parts(name: str, count: int):
        for number in range(count):
            seen.append(f"{name}{number}")
            time.sleep(0.01)
            yield
        seen.append(f"{name} end")

    contestants = {
        "long": measure.Contestant(lambda: parts("a", 3), warm=lambda: seen.append("warm")),
        "short": measure.Contestant(lambda: parts("b", 1), warm=lambda: None),
        "whole": measure.Contestant(lambda: seen.append("c"), warm=lambda: None),
    }
    seconds = measure.interleaved(contestants, measure.Rounds(1, 1, 0.0))
    assert seen == ["warm", "c", "a0", "b0", "a1", "b end", "a2", "a end"]
    assert seconds["long"][0] >= 0.03 and seconds["short"][0] >= 0.01, "a sleep never ends early"


def test_a_missed_target_brings_its_profile_into_the_table():
    measure, table = module("_measure"), module("_table")
    x = torch.randn(64, 64)
    contestants = {name: measure.Contestant(lambda: x @ x) for name in ("ours", "rival")}
    claims = [measure.Claim("fast", "ours", "rival", 1e9), measure.Claim("slow", "ours", "rival", 0.0)]
    fast, slow = measure.race(contestants, measure.Rounds(2, 2, 0.0), claims)
    assert "profile" not in fast and {"all", "aten::mm"} <= set(slow["profile"]["rival"])
    text = table.markdown([{**row, "machine": "m", "command": "c"} for row in (fast, slow)])
    assert "| slow | rival |" in text and "- slow, against rival" in text and "- fast" not in text
    assert text.count("`c` on m") == 1


def test_a_table_is_pasted_between_the_marks(tmp_path):
    table, path = module("_table"), tmp_path / "page.md"
    path.write_text(f"before\n\n{table.MARKS[0]}\nold\n{table.MARKS[1]}\n\nafter\n")
    table.paste("| new |", path)
    once = path.read_text()
    table.paste("| new |", path)
    assert path.read_text() == once
    assert "old" not in once and once.startswith("before") and once.endswith("after\n") and "| new |" in once
    path.write_text("no marks")
    with pytest.raises(ValueError, match=r"page\.md has no '<!-- measured -->'"):
        table.paste("| new |", path)
