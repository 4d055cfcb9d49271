"""Answers at scale: actors and drivers die while they draw, and the next start goes on where they were."""

import pytest

from tests.soak import campaign as soak
from tests.soak.deaths import Death


@pytest.mark.ray
def test_whatever_dies_while_answers_are_drawn_the_bytes_are_the_same_and_none_is_drawn_twice(
    evaluated, tmp_path, ray_cluster, monkeypatch
):
    monkeypatch.setitem(soak.OUTS, "evaluate", "data/evaluation")
    evaluated(models=["lorweb", "lorweb_shuffled", "single_lora", "base", "base_prompt", "copy"])

    def deaths(files: int, number: int) -> list[Death]:
        return [Death("actor", files // 5), Death("driver", files // 3)][-number:]

    told = soak.campaign("evaluate", tmp_path / "project", ray_cluster, 2, deaths)
    assert not told.faults
    assert told.kills["actor"] == told.kills["driver"] == 1 and told.amid >= 1, "nobody was killed amid the rows"
    assert told.rows == 10 * 6 + 10 and told.starts >= 2
