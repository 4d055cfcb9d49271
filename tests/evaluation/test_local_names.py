"""Which part of a base, an encoder or a judge may be published."""

import pytest

from lorweb.evaluation.local_names import base_name, encoder_name


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("tiny", "tiny"),
        ("black-forest-labs/FLUX.1-Kontext-dev", "black-forest-labs/FLUX.1-Kontext-dev"),
        ("/home/somebody/models/kontext/", "kontext"),
        ("~/models/kontext", "kontext"),
        ("../kontext", "kontext"),
        ("a/b/kontext", "kontext"),
        ("models/kontext/", "kontext"),
    ],
)
def test_a_hub_id_stays_and_a_folder_is_its_last_part(base, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert base_name(base) == name


def test_what_looks_like_a_hub_id_and_exists_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert base_name("models/my-kontext") == "models/my-kontext"
    (tmp_path / "models/my-kontext").mkdir(parents=True)
    assert base_name("models/my-kontext") == "my-kontext"
    assert encoder_name("clip:models/my-kontext") == "clip:my-kontext"


def test_an_encoder_keeps_its_kind():
    assert encoder_name("effnet") == "effnet" and encoder_name("clip:/here/vit") == "clip:vit"
    assert encoder_name("clip:openai/clip-vit-large-patch14") == "clip:openai/clip-vit-large-patch14"
