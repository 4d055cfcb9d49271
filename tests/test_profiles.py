from pathlib import Path

import pytest
import yaml

from lorweb.config import parse_params
from lorweb.profiles import load_profile
from pipelines.profile import parameters

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


def test_a_profile_reads_as_the_params_yaml_that_it_would_write(monkeypatch) -> None:
    """Against `make profile`, which merges by itself and writes text."""
    monkeypatch.chdir(ROOT)
    default = Path("params.yaml").read_text(encoding="utf-8")
    assert len(NAMES) > 1
    for name in NAMES:
        written = parse_params(yaml.safe_load(parameters(name, default)), name)
        assert load_profile(ROOT, name) == written
    assert load_profile(ROOT, "paper").train.basis.rank == 4, "the profile's, not the default's"


def test_what_is_missing_is_said(tmp_path) -> None:
    for name in (None, "paper"):
        with pytest.raises(FileNotFoundError, match=r"no parameter file at .*params.yaml; run from the project root"):
            load_profile(tmp_path, name)
    with pytest.raises(FileNotFoundError, match=rf"no profile at .*papr.yaml; there are {', '.join(NAMES)}"):
        load_profile(ROOT, "papr")


def test_a_profile_that_does_not_fit_is_named(tmp_path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "profiles" / "odd.yaml").write_text("train: {basis: {rnak: 3}}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"odd.yaml: .*rnak.*did you mean"):
        load_profile(tmp_path, "odd")
