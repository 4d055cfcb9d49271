"""Filter: cached scores, thresholds after them, duplicates, and a count for everything that left."""

import csv
import io
import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from imagehash import phash
from PIL import Image

from lorweb.basis.encoders import PACKAGED, load_encoder
from lorweb.data.decode import decode_rgb, encode_png
from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.scores import SafetyNet, score_pairs
from lorweb.data.shards import read_table, write_rows
from lorweb.records import LOOK, PAIR, REJECT, load_scores, unpack_features
from pipelines import filter as stage
from pipelines._rows import in_process
from tests.pipelines.projects import contents, write_params

pytestmark = pytest.mark.slow

CHECKS = [
    {"score": "change", "min": 0.01, "max": None, "edit_types": []},
    {"score": "nsfw", "min": None, "max": 1.0, "edit_types": []},
    {"score": "direction", "min": -1.0, "max": None, "edit_types": ["colour"]},
]


def never(job, batches):
    raise AssertionError("scores are cached: nothing was left to score")


@pytest.fixture
def few(project):
    """Twelve candidates, and four made to be refused: two without change, one twice, one damaged on disk."""
    rows = read_table(project / "data/candidates", PAIR).to_pylist()
    tasks = sorted({row["task"] for row in rows})[:4]
    rows = [row for row in rows if row["task"] in tasks and row["category"] != "photo"]  # some photos are grey
    assert len(rows) == 12
    still = [{**rows[i], "id": f"still{i}", "after": rows[i]["before"]} for i in (0, 7)]
    twice = [{**rows[3], "id": "zz-twice"}]
    broken = [{**rows[4], "id": "broken", "after": rows[4]["after"][:200]}]
    write_rows([*rows, *still, *twice, *broken], project / "data/candidates", PAIR)
    write_manifest(project / "data/candidates", Manifest(16, {}, {}, {}))
    write_params(project, {"filter": {"checks": CHECKS, "max_error_rate": 0.1}})
    return project


def told(folder):
    kept = read_table(folder / "data/pairs", PAIR).to_pylist()
    rejects = read_table(folder / "data/pairs/rejects", REJECT).to_pylist()
    return kept, rejects, json.loads((folder / "metrics/filter.json").read_text())


def test_every_candidate_is_kept_with_scores_or_refused_with_a_reason(few):
    candidates = {row["id"]: row for row in read_table(few / "data/candidates", PAIR).to_pylist()}
    stage.main(in_process)
    kept, rejects, metrics = told(few)
    assert {r["id"] for r in kept} | {r["id"] for r in rejects} == set(candidates)
    assert Counter(r["check"] for r in rejects) == {"change_min": 2, "duplicate": 1, "truncated": 1}
    assert {r["id"] for r in rejects} == {"still0", "still7", "zz-twice", "broken"}
    still = next(r for r in rejects if r["id"] == "still0")
    assert (still["value"], still["threshold"]) == (0.0, 0.01) and "nsfw" in load_scores(still["scores"])
    assert all({**row, "scores": "{}"} == candidates[row["id"]] for row in kept)
    assert {"change", "direction", "nsfw", "detail", "ssim"} <= set(load_scores(kept[0]["scores"]))
    assert metrics["rows_in"] == 16 and metrics["kept"] == 12
    assert sum(metrics["rejected_by_edit_type"]["change_min"].values()) == 2


def test_hashes_and_features_go_with_the_pairs_that_stay(few):
    stage.main(in_process)
    kept, _, _ = told(few)
    looks = {row["id"]: row for row in read_table(few / "data/pairs/look", LOOK).to_pylist()}
    assert set(looks) == {row["id"] for row in kept}
    for row in kept:
        before, after = (decode_rgb(row[side], 1 << 20) for side in ("before", "after"))
        found = looks[row["id"]]
        assert (found["before_hash"], found["after_hash"]) == (str(phash(before)), str(phash(after)))
        features_D = load_encoder(PACKAGED)([before])[0]
        features_D = features_D / np.linalg.norm(features_D)
        np.testing.assert_allclose(unpack_features(found["content"]), features_D, rtol=1e-2, atol=1e-3)


def test_a_changed_threshold_cuts_again_without_scoring(few):
    stage.main(in_process)
    first = contents(few / "data/pairs")
    strict = [{**CHECKS[0], "min": 0.2}, *CHECKS[1:]]
    write_params(few, {"filter": {"checks": strict, "max_error_rate": 0.1}})
    journal = {p: p.stat().st_mtime_ns for p in (few / ".work/filter").rglob("rows-*.arrow")}
    stage.main(in_process)  # only the damaged pair is looked at again
    kept, rejects, _ = told(few)
    assert len(kept) + len(rejects) == 16 and len(kept) < 12
    assert all(load_scores(row["scores"])["change"] >= 0.2 for row in kept)
    assert {p: p.stat().st_mtime_ns for p in journal} == journal
    write_params(few, {"filter": {"checks": CHECKS, "max_error_rate": 0.1}})
    stage.main(never)
    assert contents(few / "data/pairs") == first


def test_the_survival_table_is_monotone_in_every_curve(few):
    stage.main(in_process)
    rows = list(csv.DictReader(io.StringIO((few / "metrics/filter_survival.csv").read_text())))
    curves = {}
    for row in rows:
        curves.setdefault((row["check"], row["edit_type"]), []).append((float(row["threshold"]), float(row["kept"])))
    assert ("change_min", "colour") in curves and ("nsfw_max", "colour") in curves
    for (check, _), curve in curves.items():
        sign = 1 if check.endswith("_max") else -1
        assert all(a[0] <= b[0] and sign * a[1] <= sign * b[1] for a, b in pairwise(curve)), (check, curve)


def test_an_unknown_score_is_a_sentence(few):
    write_params(few, {"filter": {"checks": [{**CHECKS[0], "score": "beauty"}], "max_error_rate": 0.1}})
    with pytest.raises(SystemExit, match=r"unknown score 'beauty'; did you mean '.*'\? Known: change"):
        stage.main(in_process)


def test_scores_do_not_depend_on_who_else_is_in_the_batch(few):
    rows = read_table(few / "data/candidates", PAIR).to_pylist()
    rows = [row for row in rows if row["id"] != "broken"][:3]
    images = [[Image.open(io.BytesIO(row[side])).convert("RGB") for row in rows] for side in ("before", "after")]
    assert encode_png(images[0][0]) == rows[0]["before"]
    net = SafetyNet()
    together = score_pairs(net, *images)
    alone = [score_pairs(net, [a], [b]) for a, b in zip(*images, strict=True)]
    assert [one.scores[0] for one in alone] == together.scores
    assert all((one.direction[0] == together.direction[i]).all() for i, one in enumerate(alone))
