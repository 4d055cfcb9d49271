"""A short fault campaign over the data stages, and that it would find a fault. `make soak` runs the long one."""

import random
import shutil

import pytest

from pipelines import assemble, collect, encode, filter, generate
from pipelines._rows import in_process
from pipelines.profile import merge
from tests.pipelines.projects import write_params
from tests.soak import campaign as soak
from tests.soak import train_campaign
from tests.soak.calm_projects import DATA, PROJECT
from tests.soak.deaths import KINDS, Death, drawn_deaths, victims

FEWER = {
    "collect": {
        "readers": [
            {"reader": "photos", "crops": 2},
            {"reader": "dicebear", "styles": ["thumbs"], "seeds": 12, "first_seed": 0},
        ]
    },
    "generate": {"sources_per_task": 4},
    "assemble": {"min_pairs_per_task": 2},
}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The campaign's project after an undisturbed run of all stages, without Ray."""
    folder = tmp_path_factory.mktemp("calm") / "project"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(folder, merge(PROJECT, FEWER))
        for stage in (collect, generate, filter):
            stage.main(in_process)
        assemble.main()
        encode.main(in_process)
    return folder


@pytest.mark.ray
@pytest.mark.parametrize(("stage", "kinds"), [("collect", "driver"), ("filter", "driver"), ("encode", "worker")])
def test_whatever_dies_amid_the_rows_the_bytes_are_the_same_and_no_row_is_worked_twice(calm, ray_cluster, stage, kinds):
    def deaths(files, number):
        return [Death("actor", files // 5), Death(kinds, files // 3)][-number:]

    told = soak.campaign(stage, calm, ray_cluster, 2, deaths)
    assert not told.faults
    assert told.kills.total() == 2 and told.kills[kinds] == 1 and told.amid >= 1, "nobody was killed amid the rows"
    assert told.starts >= told.rounds + told.kills["driver"] and told.rows > 30


@pytest.mark.ray
@pytest.mark.soak
def test_whatever_dies_in_training_the_weights_are_the_same_and_no_step_is_logged_twice(tmp_path, ray_cluster):
    project = train_campaign.prepared(tmp_path / "calm", ray_cluster)
    calm = train_campaign.outcome(project)
    assert len(calm) > 5 and not train_campaign.faults_of(project, calm)
    told = train_campaign.campaign(project, ray_cluster, 1, lambda number: [Death("driver", 40)])
    assert not told.faults and dict(told.kills) == {"driver": 1} and told.amid == 1 and told.starts == 2
    curves = project / "metrics" / "train_loss.csv"
    curves.write_text(curves.read_text()[:-2])
    assert train_campaign.faults_of(project, calm) == ["other bytes than undisturbed in train_loss.csv"]


def test_deaths_are_drawn_at_all_moments_and_of_all_kinds():
    draw = random.Random(0)
    deaths = [death for _ in range(100) for death in drawn_deaths(draw, 20, 4)]
    moments = [death.after for death in deaths]
    assert {death.kind for death in deaths} == set(KINDS) and set(moments) == set(range(20))
    assert 150 < moments.count(0) < 250, "half of them wait for rows"


def test_deaths_of_training_are_drawn_at_all_moments_and_of_all_kinds():
    draw = random.Random(0)
    deaths = [death for _ in range(100) for death in train_campaign.drawn_deaths(draw, 4)]
    moments = [death.after for death in deaths]
    assert {death.kind for death in deaths} == set(train_campaign.KINDS) and 60 < moments.count(0) < 140
    assert min(moments) == 0 and max(moments) > 1.9 * train_campaign.STEPS


@pytest.mark.slow
@pytest.mark.parametrize("stage", DATA)
def test_the_campaign_finds_planted_faults(calm, tmp_path, stage):
    undisturbed, (out,) = soak.outs(calm, stage), soak.OUTS[stage]
    folder = shutil.copytree(calm, tmp_path / "project")
    assert not soak.faults_of(folder, stage, undisturbed)
    row = sorted((folder / ".work" / stage).rglob("rows-*.arrow"))[0]
    shutil.copy(row, row.with_name("rows-again.arrow"))
    part = sorted((folder / out).glob("*.parquet"))[0]
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    assert [fault.split()[0] for fault in soak.faults_of(folder, stage, undisturbed)] == ["other", "2"]
    part.unlink()
    shutil.rmtree(folder / ".work" / stage)
    assert soak.faults_of(folder, stage, undisturbed) == [
        f"other bytes than undisturbed in {out}/{part.name}",
        "no row in the journal",
    ]


def test_a_report_of_all_stages_is_not_overwritten_by_one_of_a_few(monkeypatch, capsys, tmp_path):
    page = tmp_path / "soak.md"
    page.write_text("all stages")
    monkeypatch.setattr("sys.argv", ["campaign", "--stages", "filter", "--report", str(page)])
    with pytest.raises(SystemExit, match="2"):
        soak.main()
    assert "would lose the stages that are not run" in capsys.readouterr().err and page.read_text() == "all stages"


def test_victims_are_looked_for_below_this_process_alone():
    import psutil

    class Driver:
        pid = psutil.Process().parent().pid

    assert [found.pid for found in victims("driver", Driver())] == [Driver.pid]
    below = {child.pid for child in psutil.Process().children(recursive=True)}
    assert {found.pid for kind in ("actor", "worker") for found in victims(kind, Driver())} <= below
