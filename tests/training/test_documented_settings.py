"""Every profile that the training guide shows is valid, and takes a step."""

import re
from pathlib import Path

import pytest
import yaml

from lorweb.config import parse_params
from lorweb.profiles import merge
from lorweb.training.step import take_step
from tests.training.made import SECTION, make_run, train_section, write_data

ROOT = Path(__file__).parents[2]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("training*.md")))
SHOWN = [block for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) if block.startswith("train:")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def test_there_are_some():
    assert len(SHOWN) >= 4


@pytest.mark.parametrize("shown", SHOWN)
def test_it_is_a_profile_and_trains(folders, shown):
    changes = yaml.safe_load(shown)
    parse_params(merge(yaml.safe_load((ROOT / "params.yaml").read_text()), changes), "docs")
    section = train_section(**merge(yaml.safe_load(SECTION), changes["train"]))
    assert take_step(make_run(folders, section), 0).loss > 0
