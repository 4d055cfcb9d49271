"""`lorweb trace` on a real small project: from a picture to the source images, and no step further than links hold."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lorweb.data.manifest import fingerprint
from lorweb.data.shards import read_table
from lorweb.records import ANALOGY, DERIVED, PAIR, REJECT, SOURCE, TRAIN_PAIR
from tests.cli_cases import file_sha256, run
from tests.pipelines.traced import make_traced

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def traced(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_traced(generated, tmp_path_factory.mktemp("traced") / "project")


@pytest.fixture
def project(traced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as the working folder; what is changed in it is a copy."""
    folder = tmp_path / "project"
    shutil.copytree(traced, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code, out, _ = run(capsys, "trace", *words, "--json")
    return code, json.loads(out)


def table(folder: str, schema: Any) -> list[dict[str, Any]]:
    return read_table(Path("data") / folder, schema).to_pylist()


def expected_sources() -> dict[str, int]:
    """{source: pairs} by the records alone, in another way than the trace goes."""
    built = {row["pair"]: {row["before_pair"], row["after_pair"]} for row in table("analogies/derived", DERIVED)}
    assert built, "the project has no derived pair"
    used = set().union(*(built.get(row["pair"], {row["pair"]}) for row in table("analogies/train", TRAIN_PAIR)))
    return dict(Counter(row["source_id"] for row in table("pairs", PAIR) if row["id"] in used))


def test_a_picture_ends_at_its_source_images_and_their_licences(project, capsys):
    code, told = asked(capsys, "b2.png", "--verify")
    assert (code, told["kind"], told["missing"]) == (0, "image", [])
    assert told["model"]["folder"] == "models/candidate"
    assert (
        told["model"]["basis_sha256"]
        == told["facts"]["basis_sha256"]
        == file_sha256(Path("models/candidate/basis.safetensors"))
    )
    assert {(link["made"], link["source"]) for link in told["data"]["links"] if link["holds"]} == {
        ("model", "encoded"), ("model", "analogies"), ("encoded", "analogies"), ("encoded", "pairs"),
        ("analogies", "pairs"), ("pairs", "candidates"), ("candidates", "sources"),
    }  # fmt: skip
    expected, rows = expected_sources(), {row["id"]: row for row in table("sources", SOURCE)}
    assert {row["id"]: row["pairs"] for row in told["sources"]["list"]} == expected and len(expected) > 3
    assert all(row["origin"] == rows[row["id"]]["origin"] for row in told["sources"]["list"])
    assert told["sources"]["licences"] == dict(Counter(rows[name]["licence"] for name in expected))
    assert sum(told["data"]["training"]["licences"].values()) == sum(expected.values())
    assert told["data"]["training"]["scores"]["change"]["pairs"] == sum(expected.values())
    assert told["data"]["training"]["derived_pairs"] == len(table("analogies/derived", DERIVED))


def test_people_see_a_tree_with_the_same_counts(project, capsys, monkeypatch):
    code, out, _ = run(capsys, "trace", "b2.png")
    expected = expected_sources()
    assert code == 0 and f"{len(expected)} source images" in out and "licences: " in out and "models/candidate" in out
    assert "check change >= " in out and all(name in out for name in expected)
    monkeypatch.setattr("lorweb.trace.show.SHOWN", 2)
    _, out, _ = run(capsys, "trace", "models/candidate")
    assert sum(name in out for name in expected) == 2 and f"... and {len(expected) - 2} more; --all or --json" in out
    code, out, _ = run(capsys, "trace", "models/candidate", "--all")
    assert code == 0 and all(name in out for name in expected)
    shutil.copy("b2.png", "a:rocket:1.png")
    assert run(capsys, "trace", "a:rocket:1.png")[1].startswith("a:rocket:1.png (image)"), "a name is no emoji"


def test_other_data_than_those_of_the_training_are_never_shown(project, capsys):
    trained_on = fingerprint(Path("data/analogies"))
    manifest = json.loads(Path("data/analogies/_manifest.json").read_text())
    manifest["files"]["splits.json"] = "0" * 64
    Path("data/analogies/_manifest.json").write_text(json.dumps(manifest))
    code, told = asked(capsys, "b2.png")
    assert code == 1 and told["sources"] is None and told["data"]["training"] is None
    assert (
        told["missing"][0]
        == f"model was made from analogies {trained_on}, but here it is {fingerprint(Path('data/analogies'))}"
    )
    assert told["missing"][0] in told["error"]


@pytest.mark.parametrize(
    ("gone", "words", "reached"),
    [
        ("data/sources", "candidates was made from sources", {"training": True, "sources": False}),
        ("data/candidates", "pairs was made from candidates", {"training": True, "sources": False}),
        ("data/analogies", "model was made from analogies", {"training": False, "sources": False}),
        ("data/encoded", None, {"training": True, "sources": True}),
    ],
)
def test_a_missing_folder_is_said_and_nothing_behind_it_is_shown(project, capsys, gone, words, reached):
    shutil.rmtree(gone)
    code, told = asked(capsys, "models/candidate")
    assert {"training": bool(told["data"]["training"]), "sources": bool(told["sources"])} == reached
    if words is None:
        assert code == 0 and "model was made from encoded" in told["notes"][-1]
    else:
        assert code == 1 and words in told["missing"][0] and "which is not here" in told["missing"][0]


def test_a_file_that_is_not_what_its_manifest_says_is_found_when_asked(project, capsys):
    shard = Path("data/sources/part-00000.parquet")
    shard.write_bytes(shard.read_bytes() + b"x")
    code, told = asked(capsys, "models/candidate", "--verify")
    assert code == 1 and told["sources"] is None and f"{shard} is not what its manifest says" in told["missing"][0]


def test_a_mix_and_a_lora_lead_to_their_model_and_an_unknown_basis_is_said(project, capsys):
    model = ("--model", "models/candidate")
    run(capsys, "mix", "a.png", "a2.png", "b.png", "-o", "m.safetensors", *model)
    run(capsys, "bake", "--mix", "m.safetensors", "-o", "l.safetensors", *model)
    for name, kind in (("m.safetensors", "mix"), ("l.safetensors", "lora")):
        code, told = asked(capsys, name)
        assert code == 0 and told["kind"] == kind and told["sources"]["count"] == len(expected_sources())
    Path("models/candidate").rename("elsewhere")
    code, told = asked(capsys, "m.safetensors")
    assert code == 1 and "no model with the basis" in told["error"] and told["sources"] is None
    assert asked(capsys, "m.safetensors", "--model", "elsewhere")[0] == 0


def test_the_lineage_of_a_promotion_is_part_of_it(project, capsys):
    _, told = asked(capsys, "b2.png")
    lineage = {
        "content_sha256": told["model"]["content_sha256"],
        "git_commit": "abc",
        "lineage_key": "k",
        "ray_job_id": "",
    }
    outs = json.dumps({"data/pairs": "m.dir", "metrics/x.json": "n"})
    Path("models/promoted.json").write_text(json.dumps({"lineage": {**lineage, "dvc_outs": outs}}))
    _, told = asked(capsys, "b2.png")
    assert told["lineage"] == {"git_commit": "abc", "lineage_key": "k", "dvc_outs": {"data/pairs": "m.dir"}}
    shutil.rmtree("data/sources")
    assert "its data are those of commit abc" in asked(capsys, "b2.png")[1]["missing"][1]


def test_a_pair_shows_its_scores_beside_the_bounds_and_where_it_is_used(project, capsys):
    analogy = next(row for row in table("analogies", ANALOGY) if row["split"] == "test")
    code, told = asked(capsys, analogy["exemplar"])
    pair = told["record"]
    assert code == 0 and told["kind"] == "pair" and pair["kept"] and not pair["trained_on"]
    assert {"id": analogy["id"], "split": "test", "as": "exemplar"} in pair["analogies"]
    assert pair["checks"] and all(
        check["holds"] and check["value"] == pair["scores"][check["score"]] for check in pair["checks"]
    )
    assert pair["source"]["id"] == pair["source_id"] and pair["source"]["licence"] and pair["source"]["origin"]
    code, told = asked(capsys, analogy["id"])
    assert told["kind"] == "analogy" and told["record"]["exemplar"]["id"] == analogy["exemplar"]
    assert told["record"]["query"]["source"]["licence"]
    code, out, _ = run(capsys, "trace", analogy["id"])
    assert code == 0 and "holds" in out and "licence: " in out


def test_a_refused_pair_says_why_and_a_source_what_became_of_it(project, capsys):
    refused = table("pairs/rejects", REJECT)[0]
    code, told = asked(capsys, refused["id"])
    assert code == 0 and told["kind"] == "pair" and not told["record"]["kept"]
    assert told["record"]["rejects"][0]["reason"] == refused["reason"]
    assert run(capsys, "trace", refused["id"])[1].count(f"check {refused['check']}") == 1
    source = told["record"]["source"]
    made = [row["id"] for row in table("candidates", PAIR) if row["source_id"] == source["id"]]
    kept = {row["id"] for row in table("pairs", PAIR)} & set(made)
    assert (source["pairs"]["made"], source["pairs"]["kept"]) == (len(made), len(kept)) and len(made) > len(kept)
    derived = table("analogies/derived", DERIVED)[0]
    code, told = asked(capsys, derived["pair"])
    assert (
        code == 0 and told["kind"] == "derived pair" and told["record"]["before_pair"]["id"] == derived["before_pair"]
    )
    assert asked(capsys, "f" * 16)[0] == 1
