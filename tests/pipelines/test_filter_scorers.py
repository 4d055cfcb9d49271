"""Several scorers in the filter stage: each its own work, merged into one evidence."""

import re

import numpy as np
import pytest
import yaml

from lorweb.config import load_params
from lorweb.data.decode import decode_rgb
from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.shards import read_index, read_table, write_rows
from lorweb.records import PAIR, SOURCE, load_scores
from pipelines import filter as stage
from pipelines._filter_scores import measure
from pipelines._rows import in_process
from tests.pipelines.projects import POOL, contents, write_params
from tests.pipelines.scorer_project import BRIGHT, CHECKS, EMBEDDED, GUIDE, eight_candidates, journals, told, use

pytestmark = pytest.mark.slow


@pytest.fixture
def few(project):
    return eight_candidates(project)


def test_the_guides_example_runs(few):
    write_params(few, yaml.safe_load(re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[1]))
    stage.main(in_process)
    kept, rejects = told(few)
    assert len(kept) + len(rejects) == 8 and kept
    for row in kept:
        own = load_scores(row["scores"])
        before, after = (np.asarray(decode_rgb(row[side], 10**6)) for side in ("before", "after"))
        assert own["brighter"] == pytest.approx((after.mean() - before.mean()) * 100 / 255, rel=1e-4, abs=1e-4)
        assert {"change", "similarity.effnet", "direction", "direction.effnet", "magnitude.effnet"} <= set(own)


@pytest.mark.ray
def test_it_gives_the_same_on_ray(few, ray_cluster):
    write_params(few, yaml.safe_load(re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[1]))
    stage.main(in_process)
    first = contents(few / "data/pairs")
    for journal in journals(few):
        journal.unlink()
    stage.main()
    assert contents(few / "data/pairs") == first


def test_every_block_of_the_guide_is_valid(few):
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)]
    entries = [entry for block in blocks if isinstance(block, list) for entry in block]
    assert {entry["scorer"] for entry in entries} == {"clip", "judge"}
    use(few, EMBEDDED, *entries)
    assert [entry.scorer for entry in load_params().filter.scorers] == ["embedded", "clip", "judge"]


def test_one_scorer_more_or_changed_leaves_the_others_work_alone(few):
    use(few, EMBEDDED)
    stage.main(in_process)
    alone, first = contents(few / "data/pairs"), journals(few)
    use(few, EMBEDDED, BRIGHT)
    stage.main(in_process)
    second = journals(few)
    assert first.items() < second.items()
    use(few, EMBEDDED, {**BRIGHT, "options": {"scale": 50}})
    stage.main(in_process)
    assert second.items() < journals(few).items()
    use(few, {**EMBEDDED, "pool": {**POOL, "batch_size": 3}}, BRIGHT)
    third = journals(few)
    stage.main(in_process)
    assert journals(few) == third
    use(few, EMBEDDED)
    stage.main(in_process)
    assert not (few / "data/pairs/notes").exists()  # nobody said anything
    assert contents(few / "data/pairs") == alone and journals(few) == third


def test_only_scorers_that_read_an_instruction_are_asked_again_when_it_changes(few):
    code = (few / "my_scorers.py").read_text().replace("name, revision", 'reads = ("instruction",)\n    name, revision')
    (few / "reading_scorers.py").write_text(code.replace('"brightness"', '"reader"'))  # a module is imported once
    use(few, EMBEDDED, {**BRIGHT, "class": "reading_scorers:Brightness"})
    stage.main(in_process)
    before = journals(few)
    rows = read_table(few / "data/candidates", PAIR).to_pylist()
    write_rows([{**row, "instruction": "in other words"} for row in rows], few / "data/candidates", PAIR)
    write_manifest(few / "data/candidates", Manifest(8, {}, {}, {}))
    stage.main(in_process)
    fresh = set(journals(few)) - set(before)
    assert fresh and {path.parent.name.split("-")[0] for path in fresh} == {"score_reader"}


def test_captions_are_those_of_the_sources(few):
    (few / "caption_scorers.py").write_text(
        "from lorweb.data.scorers import Scored\n"
        "class Letters:\n    name, revision, keys, reads = 'letters', '1', ('letters',), ('caption',)\n"
        "    def __init__(self, options): pass\n"
        "    def __call__(self, pairs): return [Scored({'letters': len(p.caption)}) for p in pairs]\n"
    )
    captions = {row["id"]: row["caption"] for row in read_table(few / "data/sources", SOURCE).to_pylist()}
    use(few, EMBEDDED, {**BRIGHT, "class": "caption_scorers:Letters", "options": {}})
    stage.main(in_process)
    kept, _ = told(few)
    found = {row["source_id"]: load_scores(row["scores"])["letters"] for row in kept}
    assert found == {source: len(captions[source]) for source in found} and min(found.values()) > 0


def test_features_come_by_name_and_only_of_pairs_that_all_scorers_took(few):
    second = {"scorer": "features", "name": "effnet", "encoder": "efficientnet-lite0+style", "pool": POOL}
    (few / "picky.py").write_text(
        "from lorweb.data.rejects import Rejected\nfrom lorweb.data.scorers import Scored\n"
        "class Picky:\n    name, revision, keys = 'picky', '1', ('fine',)\n"
        "    def __init__(self, options): pass\n"
        "    def __call__(self, pairs):\n"
        "        return [Scored({'fine': 1.0}) if 'hue' in p.instruction or p.edit_type != 'geometry'"
        " else Rejected('picky', 'no') for p in pairs]\n"
    )
    rows = read_table(few / "data/candidates", PAIR).to_pylist()
    rows[0] = {**rows[0], "edit_type": "geometry", "instruction": "mirror"}
    write_rows(rows, few / "data/candidates", PAIR)
    use(few, EMBEDDED, second, {**BRIGHT, "class": "picky:Picky", "options": {}}, max_error_rate=1.0)
    items = read_index(few / "data/candidates", PAIR, ["id", "source_id", "edit_type"], digests=["before", "after"])
    found = measure(load_params().filter, few / "data/candidates", items, in_process)
    gone = {row["id"] for row in found.rejects}
    kept = {item["id"] for item in items} - gone
    assert gone == {item["id"] for item in items if item["edit_type"] == "geometry"} and gone and kept
    evidence = found.evidence
    assert set(evidence.scores) == set(evidence.hashes) == kept and list(evidence.changes) == ["safety", "effnet"]
    for stream in (*evidence.changes.values(), *evidence.spatial.values(), evidence.content):
        assert {name for name, *_ in stream()} == kept == {name for name, *_ in stream()}
    assert all(
        np.linalg.norm(b) == pytest.approx(1, abs=1e-3) for _, b, _ in evidence.content()
    )  # effnet's, not the layout
    assert set(found.revisions) == {"embedded", "features_effnet", "picky"} == {n[6:] for n in found.pace}


@pytest.mark.parametrize(
    ("scorers", "checks", "words"),
    [
        ([BRIGHT], CHECKS, "no scorer that gives perceptual hashes"),
        ([EMBEDDED, EMBEDDED], CHECKS, "the scorer 'embedded' is given twice .*by 'embedded' and by 'embedded'"),
        ([EMBEDDED, {**BRIGHT, "class": "my_scorers:Brigthness"}], CHECKS, "no class .*did you mean 'Brightness'"),
        ([EMBEDDED, {**BRIGHT, "options": {}}], CHECKS, "KeyError: 'scale'"),
        ([EMBEDDED], [{**CHECKS[0], "score": "clip_text"}], "unknown score 'clip_text'; did you mean"),
        ([{**EMBEDDED, "scorer": "embeded"}], CHECKS, "embeded"),
    ],
)
def test_what_cannot_work_is_a_sentence_before_anything_is_measured(few, scorers, checks, words):
    use(few, *scorers, checks=checks)
    with pytest.raises((SystemExit, ValueError), match=words):
        stage.main(in_process)
