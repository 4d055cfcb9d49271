"""Conversion and the files of others: kept letter for letter, and never trusted."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from lorweb.basis import checkpoint
from lorweb.basis.checkpoint import save, save_official
from lorweb.basis.files import read_metadata as safetensors_metadata
from lorweb.basis.files import write_safetensors
from lorweb.convert import Conversion, convert
from lorweb.kontext.metadata import ModelMetadata, read_metadata, write_metadata
from tests.basis.cases import config, trained
from tests.kontext_tiny import save_tiny_kontext, tiny_transformer


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_kontext(tmp_path_factory.mktemp("base") / "kontext"))


def model() -> Any:
    transformer = tiny_transformer(0)
    trained(transformer, config())
    return transformer


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: f"\ufeff{text}",
        lambda text: f"---\n{text}",
        lambda text: f"{text}...\n",
        lambda text: json.dumps(yaml.safe_load(text)),
    ],
    ids=["plain", "no last newline", "crlf", "bom", "start mark", "end mark", "flow style"],
)
@pytest.mark.parametrize("own", [False, True], ids=["theirs alone", "with our metadata"])
def test_their_config_comes_back_letter_for_letter(base: str, tmp_path: Path, change: Any, own: bool) -> None:
    _, settings = save_official(model(), tmp_path / "theirs", encoder="clip:x")
    tree = yaml.safe_load(settings.read_text(encoding="utf-8"))
    tree["config"]["process"][0]["model"] = {"name_or_path": base}
    settings.write_bytes(change(yaml.safe_dump(tree)).encode())
    convert(tmp_path / "theirs", tmp_path / "ours", Conversion("lorweb"))
    if own:
        write_metadata(tmp_path / "ours", ModelMetadata(base, "r1", "clip:y", "r2", 64, 6, 1.0, {"tuned": "by hand"}))
    convert(tmp_path / "ours", tmp_path / "official", Conversion("official"))
    convert(tmp_path / "official", tmp_path / "again", Conversion("lorweb"))
    assert read_metadata(tmp_path / "again") == read_metadata(tmp_path / "ours")
    (tmp_path / "again" / "metadata.json").unlink()  # then nothing of ours is left to say
    _, facts = checkpoint.read_config(tmp_path / "again" / "basis.safetensors")
    assert json.loads(facts["official"])["config"].encode() == settings.read_bytes()
    if not own:
        assert (tmp_path / "official" / "config.yaml").read_bytes() == settings.read_bytes()


def test_what_was_said_by_hand_is_kept(base: str, tmp_path: Path) -> None:
    save_official(model(), tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "ours", Conversion("lorweb", base, "clip:x"))
    convert(tmp_path / "ours", tmp_path / "official", Conversion("official"))
    convert(tmp_path / "official", tmp_path / "again", Conversion("lorweb"))
    assert read_metadata(tmp_path / "again") == read_metadata(tmp_path / "ours")


def test_the_header_keeps_its_order(base: str, tmp_path: Path) -> None:
    weights, _ = save_official(model(), tmp_path / "theirs")
    header = {"z": "1", "a": "2", "format": "pt", "m": '{"x": 1}'}
    write_safetensors(weights, load_file(weights), header)
    assert list(safetensors_metadata(weights)) == list(header)
    convert(tmp_path / "theirs", tmp_path / "ours", Conversion("lorweb", base))
    back = convert(tmp_path / "ours", tmp_path / "back", Conversion("official")).paths[0]
    assert back.read_bytes() == weights.read_bytes()


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"name": "../../evil"}, "name is '../../evil': string should match pattern"),
        ({"name": "/tmp/evil"}, "name is '/tmp/evil': string should match pattern"),
        ({"name": ""}, "name is '': string should match pattern"),
        ({"name": ".hidden"}, "name is '.hidden': string should match pattern"),
        ({"name": 5}, "name is 5: input should be a valid string"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"dtypes": 5}, "dtypes is 5"),
        ({"header": {"a": 5}}, "header is {'a': 5}"),
        ({"config": 5}, "config is 5"),
        (5, "is 5, not a mapping"),
    ],
)
def test_what_the_metadata_say_of_their_files_is_checked(tmp_path: Path, fact: Any, words: str) -> None:
    save(model(), tmp_path / "ours" / "basis.safetensors", {"official": json.dumps(fact)})
    with pytest.raises(ValueError) as refused:
        convert(tmp_path / "ours", tmp_path / "out" / "deep" / "er", Conversion("official"))
    assert words in str(refused.value) and "basis.safetensors" in str(refused.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("metadata", ["[]", "5", "{", "{}", '{"base": 5, "encoder": 7}'])
def test_metadata_in_a_config_are_checked_before_anything_is_written(base: str, tmp_path: Path, metadata: str) -> None:
    _, settings = save_official(model(), tmp_path / "theirs", facts={"metadata": metadata})
    with pytest.raises(ValueError, match=r"config\.yaml: the fact 'metadata' (holds|is no JSON|lacks)"):
        convert(tmp_path / "theirs", tmp_path / "ours", Conversion("lorweb", base))
    assert not (tmp_path / "ours").exists() and settings.is_file()


@pytest.mark.parametrize(
    ("model_name", "ours"),
    [
        ("openai/clip-vit-large-patch14", "clip:openai/clip-vit-large-patch14"),
        ("google/siglip-base-patch16-224", "siglip2:google/siglip-base-patch16-224"),
        ("google/siglip2-base-patch16-224", "siglip2:google/siglip2-base-patch16-224"),
        ("clip:/some/folder", "clip:/some/folder"),
        ("/data/eclipse/dinov2", None),
    ],
)
def test_encoders_are_known_by_a_word_of_their_name(
    base: str, tmp_path: Path, model_name: str, ours: str | None
) -> None:
    save_official(model(), tmp_path / "theirs", encoder=model_name)
    done = convert(tmp_path / "theirs", tmp_path / "ours", Conversion("lorweb", base))
    if ours is None:
        assert "--encoder" in done.notes[0] and not (tmp_path / "ours" / "metadata.json").exists()
        return
    assert read_metadata(tmp_path / "ours").encoder == ours
    settings = convert(tmp_path / "ours", tmp_path / "back", Conversion("official")).paths[1]
    network = yaml.safe_load(settings.read_text(encoding="utf-8"))["config"]["process"][0]["network"]
    assert network["network_kwargs"]["external_query_model"] == model_name


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    save(model(), tmp_path / "ours" / "basis.safetensors", {})
    (tmp_path / "out").write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match="is a file; give a folder"):
        convert(tmp_path / "ours", tmp_path / "out", Conversion("official"))


def test_a_folder_with_another_model_is_refused_and_its_own_is_written_anew(base: str, tmp_path: Path) -> None:
    ours, official = tmp_path / "ours", tmp_path / "official"
    save(model(), ours / "basis.safetensors", {})
    write_metadata(ours, ModelMetadata(base, "r1", "clip:y", "r2", 64, 6, 1.0, {}))
    for _ in range(2):
        convert(ours, official, Conversion("official"))
    (tmp_path / "link").symlink_to(ours)
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "config.yaml").write_text("mine", encoding="utf-8")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "metadata.json").write_text("{}", encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for source, out, to, words in (
        (ours, ours, "official", "ours is the folder of the model that is read; give another"),
        (ours / "basis.safetensors", tmp_path / "link", "official", "link is the folder of the model that is read"),
        (official / "lorweb.safetensors", official, "lorweb", "official is the folder of the model that is read"),
        (ours, tmp_path / "settings", "official", "settings holds config.yaml already"),
        (ours, tmp_path / "half", "official", "half holds metadata.json already"),
        (official, tmp_path / "half", "lorweb", "half holds metadata.json already"),
    ):
        with pytest.raises(ValueError, match=words):
            convert(source, out, Conversion(to))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (official / "epoch2.safetensors").write_bytes(b"of another program")
    with pytest.raises(ValueError, match=r"official holds epoch2\.safetensors already, .* a new or an empty folder"):
        convert(ours, official, Conversion("official"))
