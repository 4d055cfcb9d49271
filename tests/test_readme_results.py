"""README and the guide to baselines say what the reports say."""

import re

from tests.readme_results import (
    AGAINST,
    BASELINES,
    CELLS,
    DIFFERENCES,
    GUIDE,
    MODELS,
    README,
    committed,
    of_all_baselines,
    page_with,
)

NUMBER = r"\d\.\d{4} \("


def test_the_tables_are_those_of_the_committed_reports():
    assert README.read_text(encoding="utf-8") == page_with(committed()), "run python -m tests.readme_results"
    assert len(re.findall(NUMBER, committed())) == len(CELLS) * (len(MODELS) + len(DIFFERENCES))


def test_the_tables_of_all_baselines_are_those_of_their_run():
    tables = of_all_baselines()
    assert GUIDE.read_text(encoding="utf-8") == page_with(tables, GUIDE), "run python -m tests.readme_results"
    assert len(re.findall(NUMBER, tables)) == len(CELLS) * (len(BASELINES) + len(AGAINST))
