"""The model card: read back by the hub's own library, with numbers that are the report's and nothing of the machine."""

import re
import shlex
from dataclasses import replace

import pytest
import typer
from huggingface_hub import ModelCard

from lorweb import cli
from lorweb.evaluation.local_names import base_name
from lorweb.evaluation.model_card import render_card
from lorweb.evaluation.model_card_facts import CardData, TrainingPair
from lorweb.evaluation.report_judge import outcome_names
from lorweb.kontext.metadata import ModelMetadata
from tests.basis.cases import INTERNAL, config
from tests.evaluation.report_cases import report_data

PAIRS = [
    TrainingPair("colour/red", "colour", "photo", "CC0-1.0", "embedded"),
    TrainingPair("colour/red", "colour", "photo", "CC0-1.0", "embedded"),
    TrainingPair("style/ink", "style", "avatar:x", "CC-BY-4.0", "embedded"),
]
EXTRA = {"data": {"encoded": "e" * 64}, "catalogue_sha256": "c" * 64, "seed": 3, "steps": 1200}
METADATA = ModelMetadata("tiny", "r1", "effnet", "r2", 64, 6, 1.0, EXTRA)


@pytest.fixture(scope="module")
def data():
    return report_data()


def card(**changes) -> CardData:
    return replace(CardData(METADATA, config().model_dump(mode="json"), PAIRS, "5" * 64, "7" * 64), **changes)


def test_the_front_matter_is_what_the_hub_reads(data):
    found = ModelCard(render_card(card(), data)).data
    assert found.license == "apache-2.0" and found.base_model == "tiny" and found.pipeline_tag == "image-to-image"
    assert {"visual-analogies", "lora"} <= set(found.tags) and found.metrics[0] == data.headline
    results = {(r.dataset_config, r.metric_type): r.metric_value for r in found.eval_results}
    assert len(results) == 10 and {r.dataset_revision for r in found.eval_results} == {"5" * 64}
    for (cell, metric), value in results.items():
        assert value == pytest.approx(data.metrics[cell]["lorweb"][metric]["mean"], rel=1e-5)


def test_the_body_has_every_part_and_the_reports_numbers(data):
    text = render_card(card(), data)
    parts = re.findall(r"^## (.+)$", text, re.M)
    assert parts == [
        "Intended use", "How to use", "Training data", "Evaluation", "Limits", "Health of the basis", "Lineage",
    ]  # fmt: skip
    assert "| CC0-1.0 | 2 |" in text and "| CC-BY-4.0 | 1 |" in text and "| colour | 1 | 2 |" in text
    ours = data.metrics["seen"]["lorweb"][data.headline]
    assert f"{ours['mean']:.4f} [{ours['low']:.4f}, {ours['high']:.4f}]" in text
    assert all(f"| {model} |" in text for model in data.metrics["seen"])
    total = data.failures.losses[-1]
    assert f"Of {total.analogies} test analogies on new subjects it loses {total.lost}" in text
    assert "7" * 64 in text and "e" * 64 in text and "commercial use are" not in text


def test_its_commands_are_commands(data):
    commands = re.findall(r"^    lorweb (.+)$", render_card(card(), data), re.M)
    assert [command.split()[0] for command in commands] == ["apply", "bake"]
    for command in commands:
        typer.main.get_command(cli.app).make_context("lorweb", shlex.split(command))


def test_equal_models_have_equal_cards(data):
    assert render_card(card(), data) == render_card(card(pairs=PAIRS[::-1]), report_data())


@pytest.mark.parametrize(
    ("base", "licence", "name", "shown"),
    [
        ("black-forest-labs/FLUX.1-Kontext-dev", "other", "flux-1-dev-non-commercial-license", None),
        ("someone/else", "other", "that-of-the-base-model", None),
        ("/data/models/my-kontext/", "other", "that-of-the-base-model", "my-kontext"),
        ("models/my-kontext", "other", "that-of-the-base-model", "models/my-kontext"),
    ],
)
def test_a_licence_is_the_bases_own_and_no_path_is_told(data, base, licence, name, shown):
    text = render_card(card(metadata=replace(METADATA, base=base)), data)
    found = ModelCard(text).data
    assert (found.license, found.license_name, found.base_model) == (licence, name, shown or base)
    assert "/data/models" not in text and base_name(base) in text


def test_the_card_of_a_base_in_a_folder_says_its_licence(data, tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nlicense: other\nlicense_name: my-licence\nlicense_link: https://x.org\n---\n"
    )
    found = ModelCard(render_card(card(metadata=replace(METADATA, base=str(tmp_path))), data)).data
    assert (found.license, found.license_name, found.license_link) == ("other", "my-licence", "https://x.org")


def test_a_judge_and_what_it_prefers_are_in_it(data):
    text = render_card(card(), data)
    assert "judge `a/<judge> 1234abcd`: 92 asked, 59 valid, 31 invalid, 2 unanswered" in text
    for cell in ("seen", "unseen"):
        versus = data.judge["preferences"][cell]["single_lora"]
        low, high = versus["wilson_95"]
        counted = " | ".join(str(versus[name]) for name in outcome_names(data.judge))
        row = f"| {cell} | single_lora | {versus['win_rate']['mean']:.3f} | {low:.3f} to {high:.3f} | {counted} |"
        assert row in text
    assert "judge `" not in render_card(card(), replace(data, judge={"judge": None}))


def test_licences_that_forbid_commerce_are_named(data):
    bound = [*PAIRS, TrainingPair("x", "style", "photo", "CC-BY-NC-4.0", "e")]
    assert "rule out commercial use are among them: CC-BY-NC-4.0." in render_card(card(pairs=bound), data)


def test_without_a_mix_it_offers_no_bake(data):
    internal = card(basis=config(**INTERNAL).model_dump(mode="json"))
    text = render_card(internal, replace(data, mixes=None))
    assert "lorweb bake" not in text and "with what each layer sees" in text and "Not measured" in text
