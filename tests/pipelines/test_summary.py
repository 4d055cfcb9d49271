"""What a run ends with says how to go on, also where no model was promoted."""

import json
import shlex
from pathlib import Path

import pytest

from pipelines.summary import print_summary

RECORD = {"decision": "refused", "model": "lorweb", "version": 1, "reasons": ["seen: worse"], "compared": None}


@pytest.mark.parametrize(
    ("champion", "said", "option"),
    [(None, "champion: none yet, previous: none yet", ["--model", "models/candidate"]),
     (3, "champion: version 3, previous: none yet", [])],
)  # fmt: skip
def test_the_command_to_try_has_a_model(tmp_path: Path, capsys, champion, said, option):
    (tmp_path / "models" / "candidate").mkdir(parents=True)
    record = {**RECORD, "champion": champion, "previous": None}
    (tmp_path / "models" / "promoted.json").write_text(json.dumps(record))
    print_summary(tmp_path)
    shown = capsys.readouterr().out
    assert "REFUSED: lorweb version 1" in shown and said in shown
    command = shlex.split(shown.split("try `")[1].split("`")[0])
    assert command == ["lorweb", "apply", "A.png", "A2.png", "B.png", "-o", "OUT.png", *option]
