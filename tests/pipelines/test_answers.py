"""What makes two evaluations one: the hash of the set, and the protocol."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorweb.config import parse_params
from lorweb.evaluation.measuring import MEASURE_VERSION
from lorweb.evaluation.painter import Settings
from lorweb.evaluation.workers import DRAW_VERSION, Sources
from pipelines._answers import Plan
from tests.pipelines.projects import committed_params

ANALOGY = {"id": "x", "task": "sepia", "edit_type": "colour", "exemplar": "p", "query": "q"}
ANALOGY |= {"instruction": "make it sepia", "split": "test", "holdout": "none", "subject_seen": False}


@pytest.fixture
def plan() -> Plan:
    pairs = {name: {"before_sha256": f"{name}1", "after_sha256": f"{name}2", "at": [0, 0]} for name in "pq"}
    sources, settings = Sources(Path(), Path(), {}, 64), Settings("base", 2, 1.0, True, "cpu")
    cfg = parse_params(committed_params(), "params.yaml").evaluate
    return Plan(cfg, 0, sources, settings, {}, [ANALOGY], pairs, {})


@pytest.mark.parametrize(
    "change",
    [
        {"id": "y"},
        {"task": "grey"},
        {"edit_type": "style"},
        {"instruction": "make it grey"},
        {"holdout": "value"},
        {"subject_seen": True},
    ],
)
def test_whatever_is_asked_or_reported_is_part_of_the_set(plan, change):
    assert replace(plan, analogies=[{**ANALOGY, **change}]).set_sha256 != plan.set_sha256
    assert replace(plan, analogies=[{**ANALOGY, "split": "val"}]).set_sha256 == plan.set_sha256


def test_other_bytes_of_an_image_are_another_set(plan):
    other = {**plan.pairs, "q": {**plan.pairs["q"], "after_sha256": "q3"}}
    assert replace(plan, pairs=other).set_sha256 != plan.set_sha256


def test_the_protocol_holds_the_versions_of_drawing_and_measuring(plan):
    assert (plan.protocol["draw"], plan.protocol["metrics"]) == (DRAW_VERSION, MEASURE_VERSION)
    assert plan.protocol["set"] == plan.set_sha256
