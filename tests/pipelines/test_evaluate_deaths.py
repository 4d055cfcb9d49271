"""Answers at scale: an actor dies while it draws, then the driver; others go on, and nothing is drawn twice."""

import pytest

from tests.soak import campaign as soak
from tests.soak.calm_projects import EVALUATE, MODELS
from tests.soak.deaths import Death


@pytest.mark.ray
def test_deaths_while_answers_are_drawn_cost_nothing_and_none_is_drawn_twice(evaluated, tmp_path, ray_cluster):
    evaluated(models=list(MODELS))
    told = soak.campaign(
        EVALUATE,
        tmp_path / "project",
        ray_cluster,
        2,
        lambda files, left: [Death("actor", files // 5), Death("driver", files // 2)][-left:],
    )
    assert not told.faults
    assert told.kills == {"actor": 1, "driver": 1} and told.amid == 2, "nobody was killed amid the rows"
    assert told.rows == 2 * 10 * 4 + 5 and told.starts == told.rounds + 1  # answers, scores, pictures of the gallery
