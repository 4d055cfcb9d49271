"""A published checkpoint among the models that are compared: two files, as lorweb.basis.official reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorweb.basis.official import find_weights, load_official, read_official_config
from lorweb.data.manifest import file_sha256
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
        ValueError: files that do not fit each other, or queries of another mode than the encoded ones.
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


def _settings(at: Path) -> Path:
    return (at if at.is_dir() else at.parent) / "config.yaml"
