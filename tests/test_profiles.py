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
    with pytest.raises(FileNotFoundError, match=r"no profile at .*papr.yaml: .*did you mean 'paper'"):
        load_profile(ROOT, "papr")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    with pytest.raises(FileNotFoundError, match="run from the project root, where profiles/ lies"):
        load_profile(tmp_path, "paper")


@pytest.fixture
def desk(tmp_path):
    """A folder with the default parameters; call it with the text of profiles."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())

    def write(**profiles: str) -> Path:
        for name, text in profiles.items():
            (tmp_path / "profiles" / f"{name}.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_a_profile_that_does_not_fit_is_named(desk) -> None:
    with pytest.raises(ValueError, match=r"odd.yaml: .*rnak.*did you mean"):
        load_profile(desk(odd="train: {basis: {rnak: 3}}"), "odd")
    with pytest.raises(ValueError, match=r"odd.yaml holds list, not sections"):
        load_profile(desk(odd="[train]"), "odd")
    with pytest.raises(ValueError, match=r"odd.yaml is not YAML"):
        load_profile(desk(odd="train: ["), "odd")


def test_what_a_profile_extends_lies_between_it_and_the_default(desk) -> None:
    root = desk(
        low="train: {steps: 7, batch_size: 5, alarms: null}",
        high="extends: low\ntrain: {steps: 9, optimizer: {schedule: linear}}",
        top="extends: high\ntrain: {optimizer: {eps: 1.0e-3}}",
    )
    found, default = load_profile(root, "top").train, load_profile(root, None).train
    assert (found.steps, found.batch_size, found.alarms) == (9, 5, None)
    assert (found.optimizer.schedule, found.optimizer.eps) == ("linear", 1e-3)
    assert found.optimizer.betas == default.optimizer.betas and found.basis == default.basis
    assert load_profile(root, "low").train.steps == 7, "what is extended stays as it was"
    null_below = desk(onto="extends: low\ntrain: {alarms: {from_step: 3}}")
    with pytest.raises(ValueError, match=r"missing key 'train.alarms.min_entropy'"):  # not filled up from the default
        load_profile(null_below, "onto")


def test_profiles_that_extend_nothing_sensible_are_refused(desk) -> None:
    root = desk(a="extends: b", b="extends: c\nseed: 1", c="extends: a", own="extends: own", odd="extends: [a, b]")
    with pytest.raises(ValueError, match="in a circle: a -> b -> c -> a; break it"):
        load_profile(root, "a")
    with pytest.raises(ValueError, match="in a circle: own -> own"):
        load_profile(root, "own")
    with pytest.raises(ValueError, match=r"odd.yaml: extends is \['a', 'b'\]; give the name of one profile"):
        load_profile(root, "odd")
    with pytest.raises(FileNotFoundError, match=r"lost.yaml extends another profile: .* did you mean 'own'"):
        load_profile(desk(lost="extends: onw"), "lost")
