"""Generate with real editors: packaged Kontext into accepted pairs, several editors at once, tasks that travel."""

import hashlib
import json
import shutil
from collections import Counter

import pytest
from PIL import Image

from lorweb.data.decode import decode_rgb, encode_png
from lorweb.data.shards import read_table, write_rows
from lorweb.data.tasks import holdouts, read_tasks
from lorweb.records import GIVEN, PAIR, REJECT, SOURCE, TRAIN_PAIR
from pipelines import assemble, collect, generate
from pipelines import filter as filtering
from pipelines._generate_sheet import draw_sheet, spread
from pipelines._rows import in_process
from tests.pipelines.projects import POOL, contents, write_icons, write_params

pytestmark = pytest.mark.slow

OUT = "data/candidates"
KONTEXT = {
    "editor": "kontext", "tasks": ["colour/sepia", "colour/tint-*"], "pool": POOL, "model": "tiny",
    "prompt": "{instruction}", "dtype": "float32", "offload": "none", "compile": False, "side": 64,
    "num_inference_steps": 2, "guidance_scale": 1.0, "loras": [],
}  # fmt: skip
EMBEDDED = {"editor": "embedded", "tasks": ["colour/sepia", "geometry/mirror"], "pool": POOL}


def pairs_of(folder, where=OUT):
    return read_table(folder / where, PAIR).to_pylist()


def journalled(folder):
    return set((folder / ".work/generate").glob("edit_embedded_*/rows-*.arrow"))


def metrics_of(folder, name):
    return json.loads((folder / f"metrics/{name}.json").read_text())


def test_packaged_kontext_makes_pairs_that_the_filter_accepts(project):
    entry = {**KONTEXT, "num_inference_steps": 6}
    write_params(project, {"generate": {"editors": [entry], "sources_per_task": 3}})
    generate.main(in_process)
    made = pairs_of(project)
    tasks = Counter(pair["task"] for pair in made)
    assert len(tasks) >= 5 and set(tasks.values()) == {3} and {pair["editor"] for pair in made} == {"kontext"}
    seeds = [pair["seed"] for pair in made]
    assert len(set(seeds)) == len(seeds), "a real editor draws anew for every source"
    filtering.main(in_process)
    kept = pairs_of(project, "data/pairs")
    assert len(kept) > len(made) / 2
    greens = [pair for pair in made if pair["task"] == "colour/tint-green"]
    for pair in greens:  # the model was trained on this one: its answer is greener than what it was given
        before, after = (decode_rgb(pair[side], 10**6).resize((1, 1)).getpixel((0, 0)) for side in ("before", "after"))
        assert after[1] - after[0] > before[1] - before[0]
    sheet = Image.open(project / "reports/generate/kontext.png")
    assert sheet.mode == "RGB" and len(sheet.getcolors(10**6)) > 1000


def test_two_editors_share_a_task_and_a_run_repeats_itself(project):
    write_params(project, {"generate": {"editors": [EMBEDDED, KONTEXT], "sources_per_task": 2}})
    generate.main(in_process)
    first, sheets = contents(project / OUT), contents(project / "reports/generate")
    both = [pair for pair in pairs_of(project) if pair["task"] == "colour/sepia"]
    assert Counter(pair["editor"] for pair in both) == {"embedded": 2, "kontext": 2}
    assert len({pair["id"] for pair in both}) == 4 and len({pair["source_id"] for pair in both}) == 2
    told = metrics_of(project, "generate")
    assert {e["editor"]: (e["rows_in"], e["kept"]) for e in told["editors"]}["embedded"] == (4, 4)
    assert set(sheets) == {"embedded.png", "kontext.png"} and told["sheets"] == sorted(sheets)
    assert set(read_tasks(project / OUT)) == {pair["task"] for pair in pairs_of(project)}
    batched = [{**entry, "pool": {**POOL, "batch_size": 3}} for entry in (KONTEXT, EMBEDDED)]
    shutil.rmtree(project / ".work")
    write_params(project, {"generate": {"editors": batched, "sources_per_task": 2}})
    generate.main(in_process)
    again = contents(project / OUT)
    assert {n: again[n] for n in again if n != "_manifest.json"} == {
        n: first[n] for n in first if n != "_manifest.json"
    }


def test_a_changed_number_of_one_editor_leaves_the_others_work(project):
    write_params(project, {"generate": {"editors": [EMBEDDED, KONTEXT], "sources_per_task": 2}})
    generate.main(in_process)
    journal = journalled(project)
    other = {**KONTEXT, "num_inference_steps": 1}
    write_params(project, {"generate": {"editors": [EMBEDDED, other], "sources_per_task": 2}})
    generate.main(in_process)
    assert journalled(project) == journal
    assert len(list((project / ".work/generate").glob("edit_kontext_*"))) == 2


def test_many_entries_of_one_kind_keep_their_journals_apart(project):
    tints = ["tint-blue", "tint-green", "tint-red", "sepia", "invert"]
    entries = [{**KONTEXT, "num_inference_steps": 1, "tasks": [f"colour/{name}"]} for name in tints]
    triggers = [{**entry, "prompt": f"{name}: {{instruction}}"} for entry, name in zip(entries, tints, strict=True)]
    write_params(project, {"generate": {"editors": triggers, "sources_per_task": 1}})
    generate.main(in_process)
    assert {pair["task"] for pair in pairs_of(project)} == {f"colour/{name}" for name in tints}
    numbers = [{**entry, "guidance_scale": 1.0 + place} for place, entry in enumerate(entries)]
    write_params(project, {"generate": {"editors": numbers, "sources_per_task": 1}})
    with pytest.raises(SystemExit, match=r"5 entries of generate.editors differ in numbers alone"):
        generate.main(in_process)


def test_one_kind_twice_on_one_task_is_refused(project):
    write_params(project, {"generate": {"editors": [KONTEXT, {**KONTEXT, "prompt": "please {instruction}"}]}})
    with pytest.raises(SystemExit, match=r"two entries of generate.editors are 'kontext' and do task 'colour/"):
        generate.main(in_process)


@pytest.fixture
def with_given(project):
    """Given pairs for three photos, one damaged, and one whose source is not there."""
    sources = read_table(project / "data/sources", SOURCE).to_pylist()[:3]
    rows = []
    for number, source in enumerate([*sources, {"id": "ffff", "image": sources[0]["image"]}]):
        after = encode_png(decode_rgb(source["image"], 10**6).transpose(Image.Transpose.ROTATE_180))
        sha = "0" * 64 if number == 2 else hashlib.sha256(after).hexdigest()
        rows.append({"source": source["id"], "task": "given/turn", "edit_type": "other",
                     "instruction": f"turn {number}", "after": after, "sha256": sha})  # fmt: skip
    write_rows(rows, project / "data/sources/given", GIVEN)
    return project, rows


def test_given_pairs_pass_as_they_are_and_bad_ones_leave_with_a_reason(with_given):
    project, rows = with_given
    entry = {"editor": "given", "tasks": ["*"], "pool": POOL}
    write_params(project, {"generate": {"editors": [entry], "max_error_rate": 0.6}})
    generate.main(in_process)
    made = {pair["source_id"]: pair for pair in pairs_of(project)}
    assert set(made) == {row["source"] for row in rows[:2]}
    for row in rows[:2]:
        pair = made[row["source"]]
        assert (pair["after"], pair["instruction"], pair["edit_type"]) == (row["after"], row["instruction"], "other")
    rejects = read_table(project / OUT / "rejects", REJECT).to_pylist()
    assert sorted(row["check"] for row in rejects) == ["damaged", "no_source"]
    facts = read_tasks(project / OUT)["given/turn"]
    assert facts.holdout is None and facts.instructions == tuple(f"turn {n}" for n in range(4))
    assert metrics_of(project, "generate")["rejected"] == {"damaged": 1, "no_source": 1}


def test_emoji_change_hands_from_collect_to_candidates(project):
    write_icons(project / "icons")
    reader = [{"reader": "fluent", "drawing": "flat", "limit": 9, "cache": "icons"}]
    entry = {"editor": "emoji", "tasks": ["emoji/flat-to-*"], "cache": "icons", "pool": POOL}
    write_params(project, {"collect": {"readers": reader}, "generate": {"editors": [entry], "seeds_per_pair": 3}})
    collect.main(in_process)
    generate.main(in_process)
    made = pairs_of(project)
    assert Counter(pair["task"] for pair in made) == {"emoji/flat-to-glossy": 2, "emoji/flat-to-noto": 2}
    assert {pair["licence"] for pair in made} == {"MIT", "MIT AND Apache-2.0"}
    assert metrics_of(project, "generate")["rejected"] == {}, "what has no twin is not asked for"


def test_tasks_travel_to_assemble_and_undeclared_ones_are_held_out_by_share(project):
    write_params(project, {"assemble": {"train_subjects": [], "test_subjects": 0.4, "val_subjects": 0.3}})
    filtering.main(in_process)
    path = project / "data/pairs/tasks.json"
    assert path.read_bytes() == (project / OUT / "tasks.json").read_bytes()
    assemble.main()
    declared = {name: facts.holdout for name, facts in read_tasks(path.parent).items()}
    raw = json.loads(path.read_text())
    free = [name for name in raw if declared[name] == "none"]
    path.write_text(json.dumps({name: {**facts, "holdout": None} for name, facts in raw.items()}))
    for share, held in ((0.0, 0), (1.0, len(raw))):
        found = holdouts(read_tasks(path.parent), share, seed=0)
        assert sum(value == "edit" for value in found.values()) == held and free
    seed = next(s for s in range(50) if 0 < list(holdouts(read_tasks(path.parent), 0.3, s).values()).count("edit") < 4)
    found = holdouts(read_tasks(path.parent), 0.3, seed)
    write_params(project, {"seed": seed, "assemble": {"train_subjects": [], "holdout_tasks": 0.3}})
    assemble.main()
    trained = {row["task"] for row in read_table(project / "data/analogies/train", TRAIN_PAIR).to_pylist()}
    assert trained and trained <= {name for name, value in found.items() if value == "none"}
    path.unlink()
    with pytest.raises(SystemExit, match=r"no data/pairs/tasks.json"):
        assemble.main()


def test_a_sheet_shows_every_task_before_a_second_pair_of_any(project):
    rows = pairs_of(project)
    tasks = {row["task"] for row in rows}
    shown = spread(rows, len(tasks))
    assert {row["task"] for row in shown} == tasks and spread(rows[::-1], 3) == spread(rows, 3)
    large = draw_sheet([{**shown[0], "instruction": "a very long instruction " * 9}])
    assert large.size[1] > 128 and large.getpixel((60, 60)) != (255, 255, 255)
