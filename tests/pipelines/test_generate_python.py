"""The guide's own example runs as it stands, in this process and on Ray's workers."""

import re

import pytest
import yaml
from PIL import Image, ImageOps

from lorweb.data.decode import decode_rgb
from lorweb.data.shards import read_table
from lorweb.records import PAIR
from pipelines import generate
from pipelines._rows import in_process
from tests.pipelines.projects import ROOT, contents, write_params

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
    for journal in (guided / ".work/generate").rglob("rows-*.parquet"):
        journal.unlink()
    generate.main()
    check(guided)
    assert contents(guided / "data/candidates") == first


def test_the_guides_language_model_entry_is_valid(project):
    from lorweb.config import load_params

    (entry,) = [yaml.safe_load(block) for block in blocks("yaml")[1:]]
    write_params(project, {"generate": {**yaml.safe_load(blocks("yaml")[0])["generate"], **entry}})
    assert load_params().generate.instructions.source == "llm"


def test_a_class_that_is_not_there_ends_the_stage_with_a_sentence(guided):
    (guided / "my_editors.py").unlink()
    entry = yaml.safe_load(blocks("yaml")[0])["generate"]["editors"][1]
    write_params(guided, {"generate": {"editors": [{**entry, "class": "gone_editors:Mirror"}]}})
    with pytest.raises(SystemExit, match=r"generate: editor 'gone_editors:Mirror': cannot import 'gone_editors'"):
        generate.main(in_process)
