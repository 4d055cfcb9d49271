"""Every option that is a path takes a URI: found in the models of params.yaml, each opened as its stage opens it."""

import io
import json
import tarfile
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import BaseModel, TypeAdapter
from safetensors.torch import save_file

from lorweb.basis.encoders import model_folder
from lorweb.config import Params
from lorweb.data.editors.diffusion import lora_file
from lorweb.data.editors.emoji import EmojiEditor
from lorweb.data.editors.entries import EmojiConfig, LoraEntry
from lorweb.data.editors.stock import resolve_pipeline
from lorweb.data.readers import ReaderConfig, build_reader
from lorweb.data.scorers.folders import model_at, weights_file
from lorweb.evaluation import backbones
from lorweb.evaluation.official import official_files
from lorweb.kontext.load import resolve
from lorweb.storage import Store, is_uri
from lorweb.storage.fetched import fetched, forget, here, portable, use_options
from pipelines._generate_instruct import _job as instruct_job
from tests.kontext_tiny import drawn_image

NO_PATHS = {  # of models whose name stands alone: all their texts
    *(
        "Assemble",
        "Basis",
        "Best",
        "Check",
        "DicebearConfig",
        "EmbeddedConfig",
        "Endpoint",
        "Filter",
        "FixedInstruction",
    ),
    *("Gate", "GivenConfig", "ImageColumns", "Promote", "PythonConfig", "PythonReaderConfig", "PythonScorerConfig"),
    *("Storage", "name", "licence", "tasks", "prompt", "labels", "before", "after", "blank", "images", "arguments"),
    *("caption", "category", "subject", "query_mode", "IndexConfig.path"),
}


def text_options() -> set[tuple[str, str]]:
    """(model, field) of every option that holds free text, however deep."""
    found: set[tuple[str, str]] = set()
    walked: set[type] = set()

    def holds_text(kind: Any) -> bool:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind not in walked:
                walked.add(kind)
                found.update((kind.__name__, n) for n, f in kind.model_fields.items() if holds_text(f.annotation))
            return False
        if kind is str or typing.get_origin(kind) is typing.Literal:
            return kind is str
        parts = typing.get_args(kind)[1:] if typing.get_origin(kind) is dict else typing.get_args(kind)
        return max(list(map(holds_text, parts)), default=False)  # every part is walked

    holds_text(Params)
    return found


def located(reader: dict[str, Any], at: str) -> list[Any]:
    """Origins of a reader's locations, and the bytes of the first file that it names."""
    cfg = TypeAdapter(ReaderConfig).validate_python(reader)
    places = list(build_reader(cfg).locations())
    assert places and not [place.fault for place in places if place.fault]
    first = next((place.uri for place in places if place.uri), "")
    if first and is_uri(at):
        assert not Path(portable(first)).is_absolute() and here(portable(first)) == first
    return [[place.origin for place in places], Path(first).read_bytes() if first else b""]


def reader(kind: str, place: str, more: dict[str, Any]) -> Callable[[str], Any]:
    def read(root: str) -> Any:
        at = f"{root}/{place}"
        return located({"reader": kind, "name": "n", "licence": "MIT", "path": at, **more}, at)

    return read


FACTS = {"caption": None, "subject": None, "category": None, "licence": None}
EDITS: dict[str, Any] = {"edit_types": {}, "aspect_tolerance": 1.0}


def of_folder(open_it: Callable[[str], Path], *names: str) -> Callable[[str], Any]:
    """What lies in the folder that is opened."""
    return lambda root: [(open_it(f"{root}/model") / name).read_bytes() for name in names]


def indexed(root: str) -> Any:
    index = {"index": f"{root}/index.csv", "path": "file", **FACTS}
    return located(
        {"reader": "folder", "name": "n", "licence": "MIT", "path": f"{root}/images", "captions": index}, root
    )


def fluent(root: str) -> Any:
    return located({"reader": "fluent", "drawing": "flat", "limit": 1, "cache": f"{root}/cache"}, f"{root}/cache")


def tuxpaint(root: str) -> Any:
    return located({"reader": "tuxpaint", "limit": 1, "cache": f"{root}/cache"}, f"{root}/cache")


def emoji(root: str) -> Any:
    pool = {"actors": 1, "cpus": 1, "gpus": 0, "batch_size": 1}
    editor = EmojiEditor(EmojiConfig(editor="emoji", tasks=("*",), cache=f"{root}/cache", pool=pool))
    return [path.read_bytes() for path in editor.files.values()]


def language_model(root: str) -> Any:
    asked = SimpleNamespace(
        model=f"{root}/model", dtype="float32", max_new_tokens=1, temperature=1.0, pool=SimpleNamespace()
    )
    return instruct_job(asked, 0.0).identity


def scorer(name: str) -> Callable[[str], Any]:
    return of_folder(partial(model_at, name), "config.json")


OPENED: dict[str, Callable[[str], Any]] = {
    "Encode.base": of_folder(resolve, "config.json"),
    "KontextConfig.model": of_folder(resolve, "config.json"),
    "DiffusersConfig.model": of_folder(resolve_pipeline, "model_index.json"),
    "LlmInstructions.model": language_model,
    "LoraEntry.path": lambda root: lora_file(LoraEntry(path=f"{root}/model/w.safetensors", weight=1)).read_bytes(),
    "Encode.encoder": of_folder(partial(model_folder, "clip"), "config.json"),
    "FeaturesConfig.encoder": of_folder(partial(model_folder, "siglip2"), "config.json"),
    **{f"{name}Config.model": scorer(name.lower()) for name in ("Clip", "Dino", "Aesthetic", "Classifier", "Judge")},
    "AnswerJudge.model": scorer("judge"),
    "AestheticConfig.head": lambda root: weights_file("aesthetic", f"{root}/model/w.safetensors", "x").read_bytes(),
    "LpipsConfig.weights": lambda root: weights_file("lpips", f"{root}/model/w.safetensors", "x").read_bytes(),
    "Evaluate.perceptual": lambda root: backbones.lpips_file(f"lpips:{root}/model").read_bytes(),
    "Evaluate.direction": lambda root: (
        backbones._kind_and_folder(f"clip:{root}/model")[1] / "config.json"
    ).read_bytes(),
    "Evaluate.official": lambda root: [file.read_bytes() for file in official_files(fetched(f"{root}/model"))],
    "FolderConfig.path": reader("folder", "images", {"captions": "none"}),
    "ParquetConfig.path": reader("parquet", "parquet", {"columns": {"image": "image", **FACTS}}),
    "WebdatasetConfig.path": reader("webdataset", "tar", {"images": ["png"], "captions": "none"}),
    "PairsConfig.path": reader("pairs", "pairs", {"instruction": "folder", **EDITS}),
    "EvalsetConfig.path": reader("evalset", "evalset", EDITS),
    "Relation252kConfig.path": reader("relation252k", "relation", {"instruction": "pair", "edit_types": {}}),
    "IndexConfig.index": indexed,
    "FluentConfig.cache": fluent,
    "TuxpaintConfig.cache": tuxpaint,
    "EmojiConfig.cache": emoji,
}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one of each kind of thing that an option names."""
    root = tmp_path_factory.mktemp("things")
    png = io.BytesIO()
    drawn_image(0, 32, 32).save(png, "PNG")
    files = {
        "images/one.png": png.getvalue(),
        "index.csv": b"file\none.png\n",
        "pairs/blue/before/one.png": png.getvalue(),
        "pairs/blue/after/one.png": png.getvalue(),
        "evalset/original/unsplash_cats/one.png": png.getvalue(),
        "evalset/decoded_random_inference_set/set/cats/make_it_blue/one_0.png": png.getvalue(),
        "relation/1-Blue/Group1/one.png": png.getvalue(),
        "model/config.json": b"{}",
        "model/model_index.json": b"{}",
        "model/config.yaml": b"{}",
        "cache/tuxpaint-stamps-default/usr/share/tuxpaint/stamps/one.png": png.getvalue(),
    }
    icons = {"icons": {"cat": {"body": "<path d='M0 0h16v16H0z'/>"}}}
    files |= {f"cache/{name}.json": json.dumps(icons).encode() for name in ("fluent-flat", "fluent-glossy", "noto")}
    label = {
        "img_name": "one.png",
        "left_image_description": "a",
        "right_image_description": "b",
        "edit_instruction": "make it blue",
    }
    files["relation/1-Blue/Group1/labels.json"] = json.dumps([label]).encode()
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    save_file({"w": torch.zeros(2)}, root / "model/w.safetensors")
    (root / "parquet").mkdir()
    pq.write_table(pa.table({"image": [png.getvalue()]}), root / "parquet/x.parquet")
    (root / "tar").mkdir()
    with tarfile.open(root / "tar/x.tar", "w") as tar:
        tar.add(root / "images/one.png", "one.png")
    return root


@pytest.fixture
def there(things: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same on S3: the URI of their folder."""
    store = Store("s3://bucket/things", {"endpoint_url": s3})
    if not store.names(""):
        for path in things.rglob("*"):
            if path.is_file():
                store.put(path, path.relative_to(things).as_posix())
    monkeypatch.setenv("LORWEB_NODE_FOLDER", str(tmp_path / "node"))
    forget()
    use_options(store)
    yield store.uri
    forget()
    use_options(None)


def test_every_text_of_the_parameters_is_known_as_a_path_or_as_none():
    texts = text_options()
    assert len(texts) > 60 and ("Encode", "base") in texts and ("IndexConfig", "index") in texts
    paths = {f"{m}.{n}" for m, n in texts if not {m, n, f"{m}.{n}"} & NO_PATHS}
    assert paths == set(OPENED)


@pytest.mark.parametrize("option", sorted(OPENED))
def test_a_path_option_takes_a_uri(option, things, there):
    assert OPENED[option](there) == OPENED[option](str(things))
