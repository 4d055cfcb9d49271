"""The evaluate stage under another protocol: several noises, other backbones, a published checkpoint, prompts."""

import shutil
from pathlib import Path
from statistics import fmean, stdev

import pytest

from lorweb.data.shards import read_table
from lorweb.evaluation.compare import Contender, compare, read_contender, read_measured
from lorweb.evaluation.results import DIFFERENCES, HEADLINE
from lorweb.evaluation.workers import ANSWER, noise_number
from pipelines._rows import Runner
from tests.data.scoring import save_clip
from tests.data.test_scorer_heads import lpips_file
from tests.evaluation.test_guide import BLOCKS
from tests.pipelines.evaluated import read_json

pytestmark = pytest.mark.slow


def answers():
    return {row["id"]: row for row in read_table(Path("data/evaluation"), ANSWER).to_pylist()}


@pytest.fixture
def worked(monkeypatch):
    """Ids of the items of each function that were worked since it was last cleared."""
    found: dict[str, list[str]] = {}
    inner = Runner._results

    def results(self, items):
        found.setdefault(self.job.function, []).extend(item["id"] for item in items)
        return inner(self, items)

    monkeypatch.setattr(Runner, "_results", results)
    return found


def test_further_noises_add_answers_and_a_metric_is_their_mean(evaluated, worked, monkeypatch):
    import lorweb.basis

    evaluated(models=["lorweb", "base", "copy"])
    one, first = read_json("reports/metrics.json"), answers()
    assert "seed_std" not in one["seen"]["lorweb"][HEADLINE] and not any(noise_number(name) for name in first)
    worked.clear()
    asked, inner = [], lorweb.basis.mix
    monkeypatch.setattr(lorweb.basis, "mix", lambda t, query: asked.append(query) or inner(t, query))
    evaluated(seeds=3)
    found = answers()
    assert len(found) == 10 * (3 + 3 + 1) and len(set(worked["draw"])) == len(worked["draw"]) == 40
    assert {name: found[name] for name in first} == first, "the answers from the first noise are those of one"
    assert all(noise_number(name) for name in worked["draw"])
    assert sorted(worked["measure"]) == sorted(worked["draw"]), "what was measured before stays"
    assert len(asked) == 10, "a mix for each analogy, not for each of its noises"
    name = next(name for name in first if name.startswith("lorweb:"))
    of_one = [found[name], *(found[f"{name}:{number}"] for number in (1, 2))]
    assert len({row["image"] for row in of_one}) == len({row["seed"] for row in of_one}) == 3
    assert len({row["mix"] for row in of_one}) == 1
    several, measured = read_json("reports/metrics.json"), read_measured(*places())
    for m in measured:
        assert len(m.draws["lorweb"]) == 3 and len(m.draws["copy"]) == 1
        assert m.scores["lorweb"][HEADLINE] == pytest.approx(fmean(d[HEADLINE] for d in m.draws["lorweb"]))
    seen = [m for m in measured if m.holdout == "none"]
    by_task = {task: [m for m in seen if m.task == task] for task in {m.task for m in seen}}
    means = [fmean(fmean(m.draws["lorweb"][n][HEADLINE] for m in own) for own in by_task.values()) for n in range(3)]
    assert several["seen"]["lorweb"][HEADLINE]["seed_std"] == pytest.approx(stdev(means))
    assert several["seen"]["lorweb"][HEADLINE]["mean"] == pytest.approx(fmean(means))
    assert several["seen"]["copy"] == one["seen"]["copy"]
    assert read_json("reports/paired.json")["protocol"]["seeds"] == 3
    assert Path("reports/index.html").is_file()


def places():
    return [Path("data") / name for name in ("evaluation", "analogies", "pairs")]


def test_a_further_model_is_drawn_and_measured_alone(evaluated, worked):
    evaluated(models=["lorweb", "copy"])
    before = read_json("reports/metrics.json")
    worked.clear()
    evaluated(models=["lorweb", "base", "copy"])
    new = {f"base:{m.analogy}" for m in read_measured(*places())}
    assert len(new) == 10 and set(worked["draw"]) == set(worked["measure"]) == new
    after = read_json("reports/metrics.json")
    assert after["seen"]["lorweb"] == before["seen"]["lorweb"] and "base" in after["seen"]


def test_other_backbones_measure_again_and_draw_nothing_again(evaluated, worked, tmp_path):
    evaluated(models=["lorweb", "base", "copy"])
    plain, protocol = read_json("reports/metrics.json"), read_json("reports/paired.json")["protocol"]
    worked.clear()
    clip = save_clip(tmp_path / "clip")
    evaluated(perceptual=f"lpips:{lpips_file(tmp_path, 'alex')}", direction=f"clip:{clip}")
    assert set(worked) == {"measure"} and len(worked["measure"]) == 10 * 3
    found, facts = read_json("reports/metrics.json"), read_json("reports/paired.json")
    more = {"lpips_to_truth", "lpips_to_source", "clip_direction"}
    for cell, models in found.items():
        for model, metrics in models.items():
            assert set(metrics) == {*plain[cell][model], *more}
            assert {name: metrics[name] for name in plain[cell][model]} == plain[cell][model]
    assert found["seen"]["copy"]["lpips_to_source"]["mean"] == found["seen"]["copy"]["clip_direction"]["mean"] == 0.0
    assert more <= set(facts["by_metric"]) and facts["protocol"]["backbones"]["perceptual"]["name"] == "lpips:alex"
    assert facts["protocol"] != protocol, "another protocol: a champion is measured again"
    page = Path("reports/index.html").read_text()
    assert "lpips_to_truth" in page and "clip_direction" in page
    save_clip(clip, seed=1)
    worked.clear()
    evaluated()
    assert set(worked) == {"measure"}, "other weights at the same place are another backbone"
    assert read_json("reports/paired.json")["protocol"] != facts["protocol"]


def test_a_published_checkpoint_draws_what_its_basis_draws(evaluated, tmp_path):
    """models/candidate written in the published format, in full precision."""
    import torch

    from lorweb.basis.checkpoint import load, save_official
    from lorweb.config import load_params
    from lorweb.kontext.load import load_base

    transformer = load_base(load_params().encode.base, torch.float32, "cpu").transformer
    load(transformer, Path("models/candidate/basis.safetensors"))
    weights, settings = save_official(transformer, tmp_path / "published", dtype=torch.float32)
    evaluated(models=["lorweb", "official", "official_shuffled", "base", "copy"], official=str(weights.parent))
    found = answers()
    for name in [name for name in found if name.startswith("lorweb:")]:
        theirs = found[name.replace("lorweb", "official")]
        assert theirs["image"] == found[name]["image"] and theirs["mix"] == found[name]["mix"]
    paired = read_json("reports/paired.json")
    assert paired["paired"]["lorweb minus official"]["seen"]["mean"] == 0.0
    assert "exemplar gap of official (shuffled minus true)" in paired["paired"]
    assert set(paired["weights"]) == {"candidate", "official"}
    settings.write_text(settings.read_text().replace("query_mode: cat-aa'b", "query_mode: ca'-ca+cb"))
    with pytest.raises(SystemExit, match=r"evaluate.official: .*(query mode|query_dim)"):
        evaluated()
    settings.unlink()
    with pytest.raises(SystemExit, match=r"evaluate.official: no .*config.yaml; give the folder"):
        evaluated()


def test_a_candidate_of_another_query_mode_or_encoder_is_refused_before_anything_is_drawn(evaluated, worked):
    import json

    from lorweb.config import load_params
    from pipelines._answers import make_plan
    from tests.model_tiny import save_model

    params = load_params()
    encoder = Path(params.encode.encoder.partition(":")[2])
    save_model(encoder.parent, Path("models/candidate"), mode="ca'-ca")
    with pytest.raises(SystemExit, match=r"models/candidate was trained with query_mode ca'-ca, but data/encoded has"):
        evaluated()
    save_model(encoder.parent, Path("models/candidate"))
    place = Path("models/candidate/metadata.json")
    known = json.loads(place.read_text())
    for name in ("base_revision", "encoder_revision", "quadrant"):
        place.write_text(json.dumps(known | {name: 64 if name == "quadrant" else "other"}))
        with pytest.raises(
            ValueError, match=rf"trained with {name} (other|64), but data/encoded has {name} .*; set enc"
        ):
            make_plan(params.evaluate, params.seed, params.encode.base, params.encode.quadrant)
    assert not worked


def test_the_prompt_is_given_or_not_whatever_the_settings_say(evaluated):
    names = [f"{name}{end}" for name in ("lorweb", "base") for end in ("", "_prompt", "_no_prompt")]
    evaluated(models=names)
    without = answers()
    analogy = next(iter(without)).split(":")[1]

    def drawn(found, name):
        return found[f"{name}:{analogy}"]["image"]

    for name in ("lorweb", "base"):
        assert drawn(without, name) == drawn(without, f"{name}_no_prompt") != drawn(without, f"{name}_prompt")
    evaluated(prompt=True)
    told = answers()
    for name in ("lorweb", "base"):
        assert drawn(told, name) == drawn(told, f"{name}_prompt") != drawn(told, f"{name}_no_prompt")
        for end in ("_prompt", "_no_prompt"):
            assert drawn(told, f"{name}{end}") == drawn(without, f"{name}{end}")
    assert "lorweb minus lorweb_no_prompt" in read_json("reports/paired.json")["paired"]


def test_a_finished_evaluation_can_be_compared_without_the_stage(evaluated, capsys, tmp_path):
    evaluated(models=["lorweb", "single_lora", "copy"])
    measured = read_measured(*places())
    found = compare(Contender("lorweb", measured), Contender("single_lora", measured), 50, read_seed())
    paired = read_json("reports/paired.json")
    assert found[HEADLINE] == paired["paired"]["lorweb minus single_lora"]
    assert found["ssim_to_truth"]["seen"] == paired["by_metric"]["ssim_to_truth"]["lorweb minus single_lora"]["seen"]
    assert ("lorweb", "single_lora") in DIFFERENCES.values()
    shutil.copytree("data/evaluation", "other/data/evaluation")
    (block,) = [block for block in BLOCKS if "read_contender" in block]
    exec(block, {})
    assert "'p_value': " in capsys.readouterr().out
    mine = read_contender("lorweb", *places())
    assert mine.protocol == read_json("reports/paired.json")["protocol"] and mine.protocol["draw"]
    evaluated(direction=f"clip:{save_clip(tmp_path / 'clip')}")
    with pytest.raises(ValueError, match=r"backbones: .*packaged.* of single_lora, .*clip.* of lorweb"):
        compare(
            read_contender("single_lora", Path("other/data/evaluation"), *places()[1:]),
            read_contender("lorweb", *places()),
            9,
            0,
        )


def read_seed():
    from lorweb.config import load_params

    return load_params().seed
