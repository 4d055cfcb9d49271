"""README says what the committed reports say."""

import re

from tests.readme_results import CELLS, DIFFERENCES, MODELS, README, committed, page_with


def test_the_tables_are_those_of_the_committed_reports():
    assert README.read_text(encoding="utf-8") == page_with(committed()), "run python -m tests.readme_results"
    assert len(re.findall(r"\d\.\d{4} \(", committed())) == len(CELLS) * (len(MODELS) + len(DIFFERENCES))
