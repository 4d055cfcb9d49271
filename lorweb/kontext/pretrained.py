"""A model folder and everything it needs around it: its base and its encoder, both those of its training."""

from dataclasses import dataclass
from pathlib import Path

from lorweb.basis import BasisConfig, ImageEncoder
from lorweb.kontext.load import Base, load_base
from lorweb.kontext.metadata import BASIS_FILE, ModelMetadata, read_metadata
from lorweb.kontext.place import Place, check_at_hand, settle


@dataclass(frozen=True)
class Parts:
    """A base that carries the basis of `config`, in its place; `encoder` is None for internal queries."""

    base: Base
    encoder: ImageEncoder | None
    config: BasisConfig
    metadata: ModelMetadata


def read_parts(model: Path, base: Base | None, encoder: ImageEncoder | None, place: Place) -> Parts:
    """Load a model folder (`basis.safetensors` + `metadata.json`), or its safetensors file.

    `base` and `encoder` stand in for those that the metadata name.

    Raises:
        FileNotFoundError, ValueError: something is missing, damaged, or is not what the basis was trained on.
    """
    from lorweb.basis import checkpoint

    file = model / BASIS_FILE if model.is_dir() else model
    if not file.is_file():
        raise FileNotFoundError(
            f"no basis at {file}; give a model folder with {BASIS_FILE}, or a safetensors file in one"
        )
    metadata = read_metadata(file.parent)
    config, _ = checkpoint.read_config(file)
    encoder = None if config.internal else encoder or _load_encoder(metadata.encoder, place.device)
    base = base or load_base(metadata.base, place.dtype, place.loading)
    _check_revisions(metadata, base, encoder)
    check_at_hand(base)
    checkpoint.load(base.transformer, file)
    settle(base, place)
    return Parts(base, encoder, config, metadata)


def _load_encoder(name: str, device: str) -> ImageEncoder:
    from lorweb.basis.encoders import load_encoder

    return load_encoder(name, device)


def _check_revisions(metadata: ModelMetadata, base: Base, encoder: ImageEncoder | None) -> None:
    if metadata.base_revision and base.revision != metadata.base_revision:
        raise ValueError(
            f"the basis was trained on base {metadata.base} at revision {metadata.base_revision}, but {base.folder} is "
            f"{base.revision}; give the base of its training, or train on this one"
        )
    # a name may hold a folder, which may have moved
    if encoder is not None and metadata.encoder_revision and encoder.revision != metadata.encoder_revision:
        raise ValueError(
            f"the basis was trained with encoder {metadata.encoder} ({metadata.encoder_revision}), but got "
            f"{encoder.name} ({encoder.revision}); give the encoder of its training"
        )
