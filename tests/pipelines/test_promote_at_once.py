"""Promote stages of one project that run at once, as processes: one decision, one move, and both end well."""

import json

import pytest

from lorweb.serving.registry import Registry
from tests.pipelines.contest import begin, contest, evaluated, parts, project  # noqa: F401  fixtures

pytestmark = pytest.mark.slow


def test_two_stages_at_once_promote_once(contest):  # noqa: F811
    first, second = begin(contest), begin(contest)
    assert (first.wait(300), second.wait(300)) == (0, 0), (contest / "log.txt").read_text()
    registry = Registry("lorweb", contest)
    assert [move.settled for move in registry.moves()] == ["done", "done"], "the first champion, and the candidate once"
    assert [version.number for version in registry.versions()] == [1, 2]
    decision = json.loads((contest / "models" / "promoted.json").read_text())
    assert decision["version"] == decision["champion"] == registry.by_alias("champion").number == 2
    assert decision["decision"] in ("promoted", "unchanged") and registry.by_alias("previous").number == 1
