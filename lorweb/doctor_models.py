"""Models that a run is to use: the base, those of filter.scorers, generate.editors, generate.instructions and evaluate.

Folders and the headers of weights are looked at, as before a run; nothing is loaded or fetched, no server is called.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from lorweb.config import Evaluate, Params
from lorweb.data.editors.entries import DiffusersConfig, EditorConfig, KontextConfig
from lorweb.data.scorers.entries import (
    AestheticConfig,
    AskedModel,
    ClassifierConfig,
    ClipConfig,
    DinoConfig,
    FeaturesConfig,
    JudgeConfig,
    LpipsConfig,
    ScorerConfig,
)
from lorweb.doctor import Finding
from lorweb.hub import is_hub_id
from lorweb.storage import is_uri


def data_models(params: Params) -> Iterator[Finding]:
    """One finding for every model, weights file and LoRA that an entry names, in the order of params.yaml."""
    from lorweb.data.llm import check_model_folder

    asked = params.generate.instructions
    if asked.source == "llm":
        yield _found("generate.instructions llm", asked.model, check_model_folder, hub=False)
    for number, editor in enumerate(params.generate.editors):
        yield from _of_editor(f"generate.editors[{number}] {editor.editor}", editor)
    for number, scorer in enumerate(params.filter.scorers):
        yield from _of_scorer(f"filter.scorers[{number}] {scorer.scorer}", scorer)
    yield from _of_evaluation(params.evaluate)


def base_at(title: str, name: str) -> Iterator[Finding]:
    """Whether a FLUX.1-Kontext base is here: "tiny", a folder, or a hub id; nothing is fetched."""
    from lorweb.kontext.files import check_base_folder

    if is_uri(name):
        yield _elsewhere(title, name)
        return
    folder = Path(__file__).parent / "tiny" / "kontext" if name == "tiny" else Path(name).expanduser()
    if name != "tiny" and not folder.is_dir():
        if not is_hub_id(name):
            yield Finding(
                title, "missing", f"no base at '{name}'; give 'tiny', a diffusers folder or its URI, or a hub id"
            )
            return
        token = (
            os.environ.get("HF_TOKEN")
            or (Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "token").is_file()
        )
        hint = (
            "a hub token is there" if token else "no hub token: accept its licence on its page and run `hf auth login`"
        )
        yield Finding(title, "note" if token else "missing", f"{name} is no folder here and comes from the hub; {hint}")
        return
    try:
        check_base_folder(folder)
    except (ValueError, OSError) as error:
        hint = "; run `make pretrain`" if name == "tiny" else ""
        yield Finding(title, "missing", f"{error}{hint}")
    else:
        yield Finding(
            title, "ok", f"{name}, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 1e6:.0f} MB"
        )


def _of_editor(title: str, entry: EditorConfig) -> Iterator[Finding]:
    from lorweb.data.editors.diffusion import lora_file
    from lorweb.data.editors.stock import resolve_pipeline

    if not isinstance(entry, KontextConfig | DiffusersConfig):
        return
    if isinstance(entry, KontextConfig):
        yield from base_at(title, entry.model)
    else:
        yield _found(title, entry.model, lambda folder: resolve_pipeline(str(folder)), index="model_index.json")
    for lora in entry.loras:
        yield _checked(f"{title} LoRA", lora.path, partial(lora_file, lora))


def _of_scorer(title: str, entry: ScorerConfig) -> Iterator[Finding]:
    from lorweb.data.scorers.folders import model_at, weights_file

    def look(folder: Path) -> object:
        return model_at(entry.scorer, str(folder))

    match entry:
        case FeaturesConfig():
            kind, _, folder = entry.encoder.partition(":")
            if folder:
                yield _found(f"{title} {kind}", folder, look)
        case ClipConfig() | DinoConfig() | ClassifierConfig():
            yield _found(title, entry.model, look)
        case AestheticConfig():
            yield _found(title, entry.model, look)
            yield _checked(f"{title} head", entry.head, lambda: weights_file("aesthetic", entry.head, "the head"))
        case LpipsConfig():
            yield _checked(title, entry.weights, lambda: weights_file("lpips", entry.weights, f"LPIPS of {entry.net}"))
        case JudgeConfig():
            yield _asked(title, entry)


def _of_evaluation(cfg: Evaluate) -> Iterator[Finding]:
    from lorweb.data.scorers.folders import model_at
    from lorweb.evaluation.backbones import lpips_file
    from lorweb.evaluation.official import official_files

    _, _, weights = cfg.perceptual.partition(":")
    if weights:
        yield _checked("evaluate.perceptual", weights, lambda: lpips_file(cfg.perceptual))
    kind, _, folder = cfg.direction.partition(":")
    if folder:
        yield _found("evaluate.direction", folder, lambda at: model_at(f"{kind}_direction", str(at)))
    if cfg.official is not None:
        at = Path(cfg.official)
        yield _checked("evaluate.official", cfg.official, lambda: official_files(at))
    if cfg.judge is not None:
        yield _asked("evaluate.judge", cfg.judge)


def _asked(title: str, asked: AskedModel) -> Finding:
    from lorweb.data.scorers.folders import model_at

    if asked.endpoint is None:
        return _found(title, asked.model, lambda at: model_at("judge", str(at)))
    return Finding(title, "note", f"asks '{asked.model}' at {asked.endpoint.url}, which must run then")


def _found(
    title: str, name: str, look: Callable[[Path], object], index: str = "config.json", *, hub: bool = True
) -> Finding:
    """A model that is a folder or, with `hub`, a hub id; `index` is a file of every such model."""
    if is_uri(name):
        return _elsewhere(title, name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(title, name, lambda: look(folder))
    if not hub or not is_hub_id(name):
        more = ", or give a hub id such as owner/name" if hub else ""
        return Finding(
            title, "missing", f"no model folder at '{name}'; run `hf download OWNER/NAME --local-dir {name}`{more}"
        )
    from huggingface_hub import constants, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, index), str):
        return Finding(title, "ok", f"{name}, in the hub's cache")
    if constants.HF_HUB_OFFLINE:
        return Finding(
            title,
            "missing",
            f"{name} is neither a folder here nor in the hub's cache, and HF_HUB_OFFLINE is set; run "
            f"`hf download {name}` without it, or give the folder of a copy",
        )
    return Finding(title, "note", f"{name} is fetched from the hub when it is needed, or now by `hf download {name}`")


def _checked(title: str, name: str, look: Callable[[], object]) -> Finding:
    """What a look at files that should be here says; its sentences tell what to do."""
    if is_uri(name):
        return _elsewhere(title, name)
    try:
        look()
    except (ValueError, OSError) as error:
        return Finding(title, "missing", str(error))
    path = Path(name).expanduser()
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return Finding(title, "ok", f"{name}, {sum(file.stat().st_size for file in files) / 1e6:.0f} MB")


def _elsewhere(title: str, uri: str) -> Finding:
    return Finding(title, "note", f"{uri} is fetched when it is needed, with credentials from the environment")
