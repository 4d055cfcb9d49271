"""Calibration: thresholds from stored scores, against counting by hand; a parameter file keeps all but its numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml

from lorweb import cli
from lorweb.calibrate import Sample, calibrate, read_samples, rounded, write_thresholds
from lorweb.config import Check, load_params
from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.shards import write_rows
from lorweb.records import PAIR, REJECT, dump_scores

REPO = Path(__file__).parents[1]
RNG = np.random.default_rng(0)


def check(score, low, high, types=()):
    return Check(score=score, min=low, max=high, edit_types=types)


def test_a_bound_loses_the_share_it_may_and_no_more():
    good = [Sample("colour", "good", {"change": float(v)}) for v in RNG.uniform(0.1, 1, 1000)]
    bad = [Sample("colour", "no_op", {"change": float(v)}) for v in RNG.uniform(0, 0.2, 500)]
    other = [Sample("style", "good", {"change": 0.0})] * 50
    low, high = calibrate([*good, *bad, *other], [check("change", 0.5, 0.9, ("colour",))], 0.02)
    for bound, refused in ((low, lambda v: v < low.new), (high, lambda v: v > high.new)):
        assert bound.lost == np.mean([refused(s.scores["change"]) for s in good]) <= 0.02
        assert bound.caught == {"no_op": np.mean([refused(s.scores["change"]) for s in bad])}
    assert low.lost > 0.015 and low.caught["no_op"] > 0.4 and high.caught["no_op"] == 0
    assert (low.old, low.side, high.old, high.side) == (0.5, "min", 0.9, "max")
    assert calibrate(good, [check("nsfw", None, 0.5), check("change", 0.5, None)], 0.02)[0].check == 1
    with pytest.raises(ValueError, match=r"no good pair has a score that filter\.checks name"):
        calibrate(good, [check("nsfw", None, 0.5)], 0.01)
    with pytest.raises(ValueError, match="--loss is 1"):
        calibrate(good, [check("change", 0.1, None)], 1)


@pytest.mark.parametrize(("value", "down", "expected"), [(0.012345, True, 0.0123), (0.012345, False, 0.0124)])
def test_rounding_never_loses_more(value, down, expected):
    assert rounded(value, down) == pytest.approx(expected) and rounded(0.0, down) == 0.0
    assert rounded(-value, down) == pytest.approx(-0.0124 if down else -0.0123)


def test_the_parameter_file_keeps_everything_but_the_numbers(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((REPO / "params.yaml").read_text())
    checks = load_params(path).filter.checks
    samples = [
        Sample(kind, "good", {c.score: float(v) for c in checks})
        for kind in ("style", "colour", "weather", "object", "geometry", "attribute")
        for v in RNG.uniform(0.2, 0.4, 50)
    ]
    bounds = calibrate(samples, checks, 0.0)
    write_thresholds(path, bounds)
    before, after = (REPO / "params.yaml").read_text().splitlines(), path.read_text().splitlines()
    assert len(before) == len(after)
    changed = [(x, y) for x, y in zip(before, after, strict=True) if x != y]
    assert len(changed) == len({bound.check for bound in bounds}) and all("- {score:" in x for x, _ in changed)
    assert all(x.partition("#")[2] == y.partition("#")[2] for x, y in changed)
    found = load_params(path).filter.checks
    assert [(c.min, c.max) for c in found] == [
        tuple(next((b.new for b in bounds if (b.check, b.side) == (i, side)), None) for side in ("min", "max"))
        for i in range(len(checks))
    ]
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text())))
    with pytest.raises(ValueError, match="do not stand one to a line"):
        write_thresholds(path, bounds)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Scored candidates: 40 good ones, 8 without change of which the present threshold misses half."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    pair = dict.fromkeys(PAIR.names, "") | {"edit_type": "colour", "before": b"", "after": b"", "seed": 0}
    checks = load_params(Path("params.yaml")).filter.checks
    fixed = dict.fromkeys({c.score for c in checks} | {"change"}, 0.3)
    changes = [0.1 + 0.005 * i if i < 40 else 0.002 * i - 0.08 for i in range(48)]
    rows = [{**pair, "id": f"p{i:02d}", "scores": dump_scores(fixed | {"change": v})} for i, v in enumerate(changes)]
    refused = [row for row, v in zip(rows, changes, strict=True) if v < 0.01]
    why = {"stage": "filter", "check": "change_min", "reason": "x", "value": 0.0, "threshold": 0.01}
    rejects = [{**why, "id": row["id"], "scores": row["scores"]} for row in refused]
    unscored = {**why, "id": "broken", "check": "truncated", "scores": "{}"}
    kept = [row for row in rows if row not in refused]
    assert 0 < len(refused) < 8
    for folder, content, schema in (
        ("data/candidates", [*rows, {**pair, "id": "broken", "scores": "{}"}], PAIR),
        ("data/pairs", kept, PAIR),
        ("data/pairs/rejects", [*rejects, unscored], REJECT),
    ):
        write_rows(content, tmp_path / folder, schema)
    write_manifest(tmp_path / "data/pairs", Manifest(len(kept), {}, {}, {}))
    labels = [{"id": f"p{i}", "kind": "no_op"} for i in range(40, 48)]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    return tmp_path


def test_kept_and_refused_pairs_are_read_with_their_truth(project):
    samples = read_samples(Path("data"), Path("labels.json"))
    assert [s.kind for s in samples].count("no_op") == 8 and len(samples) == 48
    Path("labels.json").write_text('[{"id": "broken", "kind": "no_op"}]')
    with pytest.raises(ValueError, match="names 1 pairs without scores in data, first broken"):
        read_samples(Path("data"), Path("labels.json"))
    Path("labels.json").write_text("{}x")
    with pytest.raises(ValueError, match="is no JSON list"):
        read_samples(Path("data"), Path("labels.json"))


def test_the_command_shows_draws_and_writes(project, capsys):
    words = ["calibrate", "labels.json", "--loss", "0.05", "-o", "reports/calibration.html", "--write"]
    typer.main.get_command(cli.app).main(words, prog_name="lorweb", standalone_mode=False)
    said = capsys.readouterr().out
    assert "40 good pairs, 8 bad ones" in said and "no_op" in said and "change min" in said
    typer.main.get_command(cli.app).main([*words[:4], "--json"], prog_name="lorweb", standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert told["pairs"] == {"good": 40, "no_op": 8} and told["written"] is False
    assert {"score", "side", "old", "new", "lost", "caught"} <= set(told["bounds"][0])
    page = Path("reports/calibration.html").read_text()
    assert page.count("<svg") >= 3 and "http" not in page.replace("http://www.w3.org", "")
    first = load_params(Path("params.yaml")).filter.checks[0]
    assert first.score == "change" and 0.1 <= first.min <= 0.11
