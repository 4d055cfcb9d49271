"""Answers at scale: an actor dies while it draws, another goes on, and nothing is drawn twice."""

import pytest

from tests.soak import campaign as soak
from tests.soak.deaths import Death


@pytest.mark.ray
def test_an_actor_that_dies_while_answers_are_drawn_costs_nothing_and_none_is_drawn_twice(
    evaluated, tmp_path, ray_cluster, monkeypatch
):
    monkeypatch.setitem(soak.OUTS, "evaluate", "data/evaluation")
    evaluated(models=["lorweb", "lorweb_shuffled", "base", "copy"])
    told = soak.campaign(
        "evaluate", tmp_path / "project", ray_cluster, 1, lambda files, _: [Death("actor", files // 5)]
    )
    assert not told.faults
    assert told.kills == {"actor": 1} and told.amid == 1, "nobody was killed amid the rows"
    assert told.rows == 2 * 10 * 4 + 5 and told.starts == told.rounds  # answers, scores, pictures of the gallery
