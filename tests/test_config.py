"""Parameters: the shipped files are valid, and every kind of mistake is answered by a sentence."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorweb.config import Params, load_params, parse_params

ROOT = Path(__file__).parent.parent


@pytest.fixture
def raw() -> dict[str, Any]:
    return copy.deepcopy(yaml.safe_load((ROOT / "params.yaml").read_text()))


def fault(raw: Any) -> str:
    with pytest.raises(ValueError) as caught:
        parse_params(raw, "params.yaml")
    return str(caught.value)


def test_the_shipped_parameters_are_valid() -> None:
    assert isinstance(load_params(ROOT / "params.yaml"), Params)


def test_an_unknown_key_is_refused_with_the_nearest_valid_name(raw: dict[str, Any]) -> None:
    raw["train"]["stepz"] = 3
    assert "unknown key 'stepz' in train; did you mean 'steps'?" in fault(raw)


def test_an_unknown_key_deep_inside_and_at_the_top(raw: dict[str, Any]) -> None:
    raw["train"]["basis"]["rnak"] = 4
    raw["colect"] = {}
    message = fault(raw)
    assert "unknown key 'rnak' in train.basis; did you mean 'rank'?" in message
    assert "unknown key 'colect' in the top level; did you mean 'collect'?" in message


def test_an_unknown_key_of_a_list_entry(raw: dict[str, Any]) -> None:
    raw["filter"]["checks"][0]["mn"] = 1.0
    assert "did you mean 'min'?" in fault(raw)


def test_an_unknown_key_of_a_reader(raw: dict[str, Any]) -> None:
    raw["collect"]["readers"][0]["crop"] = 1
    assert "unknown key 'crop'" in fault(raw) and "did you mean 'crops'?" in fault(raw)


def test_a_missing_key_is_named(raw: dict[str, Any]) -> None:
    del raw["train"]["optimizer"]["eps"]
    assert "missing key 'train.optimizer.eps'" in fault(raw)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("train", "basis", "rank"), 0, "train.basis.rank is 0"),
        (("train", "caption_dropout"), 1.5, "train.caption_dropout is 1.5"),
        (("encode", "quadrant"), 70, "encode.quadrant is 70"),
        (("seed",), -1, "seed is -1"),
        (("train", "gpus_per_worker"), 0.5, "train.gpus_per_worker is 0.5"),
    ],
)
def test_a_value_out_of_range_is_a_sentence(
    raw: dict[str, Any], path: tuple[str, ...], value: float, words: str
) -> None:
    section = raw
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    assert words in fault(raw)


def test_values_that_contradict_each_other(raw: dict[str, Any]) -> None:
    raw["train"]["basis"]["heads"] = 3
    raw["assemble"]["test_subjects"] = 0.95
    message = fault(raw)
    assert "key_dim 32 is not divisible by heads 3" in message
    assert "leave no subject to train on" in message


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run from the project root"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match="is not YAML"):
        load_params(tmp_path / "params.yaml")


def test_photos_that_the_packaged_base_saw_are_never_tested_on() -> None:
    from lorweb.tiny.corpus import TRAINED_PHOTOS

    assert TRAINED_PHOTOS
    listed = load_params(ROOT / "params.yaml").assemble.train_subjects
    assert {f"photo:{name}" for name in TRAINED_PHOTOS} <= set(listed)


def test_the_gate_measures_what_apply_draws():
    """The packaged base's own default, which a trained model takes over, is what the evaluation uses."""
    from lorweb.kontext.load import read_defaults, resolve

    params = load_params(ROOT / "params.yaml")
    defaults = read_defaults(resolve(params.encode.base))
    assert defaults.num_inference_steps == params.evaluate.num_inference_steps
    assert defaults.guidance_scale == params.evaluate.guidance_scale == params.train.guidance


def test_choices_are_those_of_the_basis() -> None:
    """lorweb.config repeats them, because `lorweb --help` and the driver must not load torch."""
    from typing import get_args

    from lorweb.basis import BasisConfig
    from lorweb.basis.internal import MODES
    from lorweb.training.entries import Basis, InternalQuery

    assert set(get_args(InternalQuery.model_fields["mode"].annotation)) == set(MODES)
    for name in ("activation", "reduce", "projection"):
        assert Basis.model_fields[name].annotation == BasisConfig.model_fields[name].annotation, name


def test_names_that_stand_there_twice_are_refused(raw: dict[str, Any]) -> None:
    raw["evaluate"]["models"] += ["copy", "lorweb"]
    raw["evaluate"]["atoms"]["strengths"] = [1.0, 0.5, 1.0]
    raw["promote"]["gate"]["cells"] = ["unseen", "unseen"]
    message = fault(raw)
    assert "copy, lorweb stands there more than once; name each once" in message
    assert "1.0 stands there more than once" in message and "unseen stands there more than once" in message
    raw["evaluate"]["atoms"]["strengths"] = [1.0, 1.00000001]
    assert "1.00000001 has more than six digits; round it, to 1" in fault(raw)
