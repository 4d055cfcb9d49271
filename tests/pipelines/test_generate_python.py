"""The guide's own example runs as it stands, in this process and on Ray's workers."""

import re

import pytest
import yaml
from PIL import Image, ImageOps

from lorweb.data.decode import decode_rgb
from lorweb.data.shards import read_table
from lorweb.records import PAIR, REJECT
from pipelines import generate
from pipelines._rows import in_process
from tests.pipelines.projects import POOL, ROOT, contents, write_params

pytestmark = pytest.mark.slow

GUIDE = (ROOT / "docs/data_editors.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def guided(project):
    """The guide's parameters and its module in a project."""
    (module,) = blocks("python")
    (project / "my_editors.py").write_text(module)
    write_params(project, yaml.safe_load(blocks("yaml")[0]))
    return project


def check(folder):
    pairs = read_table(folder / "data/candidates", PAIR).to_pylist()
    assert {pair["editor"] for pair in pairs} == {"kontext", "mirror"}
    for pair in pairs:
        if pair["editor"] == "mirror":
            before, after = (decode_rgb(pair[side], 10**6) for side in ("before", "after"))
            assert after.tobytes() == ImageOps.mirror(before).tobytes()
    assert Image.open(folder / "reports/generate/mirror.png").size[0] > 256


def test_the_guides_example_runs(guided):
    generate.main(in_process)
    check(guided)


@pytest.mark.ray
def test_it_gives_the_same_on_ray(guided, ray_cluster):
    generate.main(in_process)
    first = contents(guided / "data/candidates")
    for journal in (guided / ".work/generate").rglob("rows-*.arrow"):
        journal.unlink()
    generate.main()
    check(guided)
    assert contents(guided / "data/candidates") == first


def test_the_guides_language_model_entry_is_valid(project):
    from lorweb.config import load_params

    (entry,) = [yaml.safe_load(block) for block in blocks("yaml")[1:]]
    write_params(project, {"generate": {**yaml.safe_load(blocks("yaml")[0])["generate"], **entry}})
    assert load_params().generate.instructions.source == "llm"


MOODY = """
class Moody:
    name, revision, seed_by = "moody", "1", "pair"

    def __init__(self, options):
        self.bad = options["bad"]

    def __call__(self, batch):
        for request in batch:
            if request.source.origin in self.bad:
                raise RuntimeError(f"I do not like {request.source.origin}")
        return [request.image() for request in batch]
"""


def moody(folder, **options):
    (folder / "moody_editors.py").write_text(MOODY)
    entry = {"editor": "python", "tasks": ["geometry/mirror"], "class": "moody_editors:Moody", "pool": POOL}
    return {"generate": {"editors": [{**entry, "options": options}], "sources_per_task": 8, "max_error_rate": 0.3}}


def test_an_exception_costs_its_row_and_no_other(project):
    write_params(project, moody(project, bad=["photos:chelsea:0", "photos:coffee:0"]))
    generate.main(in_process)
    pairs = read_table(project / "data/candidates", PAIR).to_pylist()
    rejects = read_table(project / "data/candidates/rejects", REJECT).to_pylist()
    assert len(pairs) + len(rejects) == 8 and 0 < len(rejects) <= 2
    assert all(r["check"] == "error" and "RuntimeError: I do not like photos:" in r["reason"] for r in rejects)


def test_an_editor_that_cannot_be_made_says_why(project):
    write_params(project, moody(project))
    words = r"max_error_rate = 0.3.*error: .*could not be made with options {}: KeyError: 'bad'"
    with pytest.raises(SystemExit, match=rf"(?s){words}"):
        generate.main(in_process)


def test_a_class_that_is_not_there_ends_the_stage_with_a_sentence(guided):
    (guided / "my_editors.py").unlink()
    entry = yaml.safe_load(blocks("yaml")[0])["generate"]["editors"][1]
    write_params(guided, {"generate": {"editors": [{**entry, "class": "gone_editors:Mirror"}]}})
    with pytest.raises(SystemExit, match=r"generate: editor 'gone_editors:Mirror': cannot import 'gone_editors'"):
        generate.main(in_process)
