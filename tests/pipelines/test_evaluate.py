"""The evaluate stage on tiny random models: what is drawn, what is reported, what a second run redoes."""

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest

from lorweb.data.shards import read_table
from lorweb.evaluation.measuring import SCORED
from lorweb.evaluation.metrics import METRICS
from lorweb.evaluation.neighbours import read_task_mixes
from lorweb.evaluation.results import CELLS, HEADLINE
from lorweb.evaluation.workers import ANSWER
from pipelines import evaluate
from pipelines._report import stage_counts, training_curves
from pipelines._rows import Runner, in_process
from tests.kontext_tiny import drawn_image
from tests.pipelines.evaluated import SIDE, make_project, pixels, read_json
from tests.pipelines.projects import contents

pytestmark = pytest.mark.slow

MODELS = (
    "lorweb",
    "lorweb_shuffled",
    "lorweb_identity",
    "single_lora",
    "single_lora_shuffled",
    "base",
    "base_prompt",
    "copy",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluated once; tests read it, and run in it."""
    root = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    os.chdir(root)
    try:
        make_project(root, MODELS)
        evaluate.main(in_process)
    finally:
        os.chdir(before)
    return root


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def answers() -> dict[tuple[str, str], dict]:
    return {(row["model"], row["analogy"]): row for row in read_table(Path("data/evaluation"), ANSWER).to_pylist()}


def test_every_model_answers_every_analogy_from_the_same_noise():
    found = answers()
    analogies = {analogy for _, analogy in found}
    assert len(analogies) == 10 and len(found) == 10 * len(MODELS)
    for analogy in analogies:
        assert len({found[model, analogy]["seed"] for model in MODELS}) == 1
    assert len({row["seed"] for row in found.values()}) == 10
    assert all((row["mix"] is not None) == model.startswith("lorweb") for (model, _), row in found.items())


def test_models_differ_and_the_untrained_prompt_is_heard():
    found = answers()
    some = next(analogy for _, analogy in found)
    images = {model: found[model, some]["image"] for model in MODELS}
    assert len(set(images.values())) == len(MODELS), "two models drew the same image"


def test_the_stage_draws_what_the_pipeline_draws():
    """Evaluation runs on stored latents and features in float16; `apply` encodes the images itself."""
    from lorweb.kontext.pipeline import AnalogyPipeline
    from lorweb.records import ANALOGY, PAIR

    analogy = read_table(Path("data/analogies"), ANALOGY).to_pylist()[0]
    pairs = {row["id"]: row for row in read_table(Path("data/pairs"), PAIR).to_pylist()}
    a, a2, b = (
        drawn(pairs[analogy[pair]][side])
        for pair, side in (("exemplar", "before"), ("exemplar", "after"), ("query", "before"))
    )
    pipe = AnalogyPipeline.from_pretrained("models/candidate")
    row = answers()["lorweb", analogy["id"]]
    out = pipe(a, a2, b, num_inference_steps=2, guidance_scale=1.0, seed=row["seed"]).images[0]
    assert out.size == (SIDE, SIDE)
    small = np.asarray(out.resize((32, 32))).astype(int)
    assert np.abs(small - pixels(row["image"])).mean() < 6
    other = pipe(
        a, a2, drawn_image(9, SIDE, SIDE), num_inference_steps=2, guidance_scale=1.0, seed=row["seed"] + 1
    ).images[0]
    assert np.abs(np.asarray(other.resize((32, 32))).astype(int) - pixels(row["image"])).mean() > 6


def drawn(png: bytes):
    from PIL import Image

    return Image.fromarray(pixels(png).astype(np.uint8))


def test_metrics_have_the_documented_form():
    metrics = read_json("reports/metrics.json")
    assert list(metrics)[:5] == ["seen", "unseen", "unseen_value", "unseen_composition", "unseen_edit"]
    assert set(metrics) >= {"seen_photo", "seen_avatar", "unseen_photo", "unseen_avatar"}
    for models in metrics.values():
        assert set(models) == set(MODELS)
        for values in models.values():
            for summary in values.values():
                assert summary["low"] <= summary["mean"] <= summary["high"] and summary["n"] > 0
    assert metrics["seen"]["copy"]["perceptual_to_source"]["mean"] == 0
    assert metrics["unseen"]["lorweb"]["perceptual_to_truth"]["n"] == 6
    paired = read_json("reports/paired.json")
    gap = paired["paired"]["exemplar gap of lorweb (shuffled minus true)"]["seen"]["mean"]
    means = {model: metrics["seen"][model][HEADLINE]["mean"] for model in MODELS}
    assert gap == pytest.approx(means["lorweb_shuffled"] - means["lorweb"], abs=1e-5)
    assert re.fullmatch(r"[0-9a-f]{64}", paired["evaluation_set_sha256"])
    assert set(paired["protocol"]["backbones"]) == {"perceptual", "direction"} and paired["protocol"]["seeds"] == 1
    for metric, found in paired["by_metric"].items():
        assert metric != HEADLINE and set(found) == set(paired["paired"])
        assert all(
            set(cells) <= set(CELLS) and 0 < c["p_value"] <= 1 for cells in found.values() for c in cells.values()
        )
    assert set(paired["by_metric"]) == {*METRICS} - {HEADLINE} and read_json("reports/judge.json") == {"judge": None}
    with Path("reports/per_task.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == ["both", "flip", "grey", "mirror", "negative"]
    assert len(read_table(Path("data/evaluation/scores"), SCORED)) == 10 * len(MODELS)


def test_the_page_needs_nothing_from_outside():
    page = Path("reports/index.html").read_text()
    assert page.count("data:image/webp;base64,") > 40
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert not re.findall(r"https?://|url\(|@import", page)
    for words in (
        "exemplar gap of lorweb",
        "What the router mixes",
        "unseen_composition",
        "single LoRA",
        "stands in for CLIP",
        "Each LoRA alone",
        "Health of the basis",
        "lost to any",
        "nearest trained tasks",
    ):
        assert words in page
    assert sorted(path.name for path in Path("reports/pictures").iterdir())[0] == "best.png"


def test_no_report_tells_where_it_was_made():
    texts = [path for path in Path("reports").iterdir() if path.suffix in (".html", ".json", ".csv", ".md")]
    assert len(texts) == 6
    for path in texts:
        assert str(Path.cwd()) not in path.read_text(encoding="utf-8"), path
    page = Path("reports/index.html").read_text(encoding="utf-8")
    assert ">kontext</td>" in page and ">clip:clip " in page, "the names alone are told"


def test_only_tasks_with_a_holdout_are_called_held_out():
    page = Path("reports/index.html").read_text(encoding="utf-8")
    assert re.findall(r'<th scope="row">(\w+) <small class="soft">held out</small>', page) == ["both", "flip", "grey"]


def test_files_that_no_data_stage_and_no_training_wrote_are_not_on_the_page(tmp_path):
    assert stage_counts(tmp_path) == {} and training_curves(tmp_path) == {}
    (tmp_path / "collect.json").write_text('{"rows_in": 3, "kept": 2}')
    (tmp_path / "promote.json").write_text("{}")
    (tmp_path / "train_loss.csv").write_text("step,loss,variant\n1,0.5,lorweb\n")
    (tmp_path / "train_other.csv").write_text("step,loss\n1,0.5\n")
    assert list(stage_counts(tmp_path)) == ["collect"]
    assert training_curves(tmp_path) == {"train loss": {"lorweb loss": [(1.0, 0.5)]}}


def test_card_and_task_mixes_are_of_the_candidate():
    from huggingface_hub import ModelCard

    weights = read_json("reports/paired.json")["weights"]["candidate"]
    card = ModelCard.load("reports/model_card.md")
    metrics = read_json("reports/metrics.json")
    found = {(result.dataset_config, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert found["unseen", HEADLINE] == pytest.approx(metrics["unseen"]["lorweb"][HEADLINE]["mean"], rel=1e-5)
    assert card.data.license == "other" and "| CC0-1.0 | 2 |" in card.text and weights in card.text
    mixes = read_task_mixes(Path("reports/task_mixes.safetensors"), weights)
    assert mixes.tasks == ("negative",) and mixes.mixes_TLN.shape[2] == 3


def test_a_second_run_draws_nothing_and_writes_the_same_bytes(monkeypatch):
    before = contents(Path("data/evaluation")) | contents(Path("reports"))
    monkeypatch.setattr(Runner, "__init__", lambda self, job, *rest: pytest.fail(f"{job.function} ran again"))
    evaluate.main(in_process)
    assert contents(Path("data/evaluation")) | contents(Path("reports")) == before


def test_missing_weights_are_a_sentence(monkeypatch):
    weights = Path("models/baselines/single_lora/adapter.safetensors")
    aside = weights.rename(weights.with_suffix(".aside"))
    try:
        with pytest.raises(
            SystemExit,
            match=r"evaluate: no weights at models/baselines.*; run the train stage with single_lora in .*, or leave",
        ):
            evaluate.main(in_process)
    finally:
        aside.rename(weights)
