"""A published checkpoint among the models that are compared: two files, as lorweb.basis.official reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorweb.basis.encoder_names import our_name
from lorweb.basis.official import find_weights, load_official, read_official_config
from lorweb.basis.official_config import named_encoder
from lorweb.data.manifest import file_sha256
from lorweb.hub import is_hub_id
from lorweb.records import stable_id
from lorweb.storage.fetched import fetched
from lorweb.training.variants import Variant, basis_variant


def official_variant(transformer: Any, at: Path) -> Variant:
    """The checkpoint put into a transformer, in place. Raises as `load_official` does."""
    load_official(transformer, at, _settings(at))
    return basis_variant(transformer)


def checked_official(named: str, encoded: Mapping[str, Any]) -> str:
    """A checkpoint that can be asked with what is encoded: a hash of weights and config.

    `named`: the path or URI of its folder, or of its weights file with config.yaml beside it. `encoded`: parameters of
    data/encoded.

    Raises:
        FileNotFoundError: no weights or no config.yaml there.
        ValueError: files that do not fit each other, or queries of another mode than the encoded ones, or of another
            encoder where config.yaml names it.
    """
    at = fetched(named)
    weights, settings = official_files(at)
    config = read_official_config(weights, settings)
    mode = encoded.get("query_mode", config.query_mode)
    if not config.internal and config.query_mode != mode:
        raise ValueError(
            f"evaluate.official: {named} is asked in query mode {config.query_mode}, but the data are encoded in "
            f"{mode}; set encode.query_mode to that of the checkpoint and run encode again"
        )
    asked, known = our_name(named_encoder(settings)), str(encoded.get("encoder", ""))
    if not config.internal and asked and known and not _may_be_same(asked, known):
        raise ValueError(
            f"evaluate.official: {named} is asked with encoder {asked}, but the data are encoded with {known}; set "
            "encode.encoder to that of the checkpoint and run encode again"
        )
    return stable_id(file_sha256(weights), file_sha256(settings))


def official_files(at: Path) -> tuple[Path, Path]:
    """Weights and config.yaml of a checkpoint. Raises FileNotFoundError, or ValueError where it holds several."""
    at = at.expanduser()
    found = find_weights(at), _settings(at)
    for file in found:
        if not file.is_file():
            raise FileNotFoundError(
                f"evaluate.official: no {file}; give the folder with the weights and their config.yaml, or set it to "
                "null"
            )
    return found


def _may_be_same(one: str, other: str) -> bool:
    """Whether two names may mean one encoder: equal hub ids, or one family where a name is a folder's."""
    families = {name.partition(":")[0] for name in (one, other)}
    ids = {name.partition(":")[2] for name in (one, other)}
    hub_ids = all(is_hub_id(name) and not Path(name).exists() for name in ids)
    return len(families) == 1 and (len(ids) == 1 or not hub_ids)


def _settings(at: Path) -> Path:
    return (at if at.is_dir() else at.parent) / "config.yaml"
