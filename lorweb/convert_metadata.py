"""metadata.json for a checkpoint that another program trained: which base and which encoder it needs."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lorweb.basis.encoders import PACKAGED
from lorweb.basis.official_config import named_base, named_encoder
from lorweb.basis.vision import READERS
from lorweb.kontext.load import Defaults, read_defaults, resolve
from lorweb.kontext.metadata import ModelMetadata
from lorweb.sizes import KONTEXT


@dataclass(frozen=True)
class Named:
    """Names as `load_base` and `load_encoder` take them; None: nothing names the encoder."""

    base: str
    encoder: str | None
    notes: list[str] = field(default_factory=list)


def named_in(config: Path, facts: dict[str, str], base: str | None, encoder: str | None) -> Named:
    """Base and encoder of an official checkpoint: as asked, else as our own metadata in it say, else its config.yaml.

    Raises:
        ValueError: no base is named.
    """
    own = json.loads(facts.get("metadata", "{}"))
    base = base or own.get("base") or named_base(config)
    if base is None:
        raise ValueError(f"{config} does not name the base it was trained on; give it as --base, for example {KONTEXT}")
    encoder = encoder or own.get("encoder") or _encoder_of(named_encoder(config))
    notes = (
        [] if encoder else [f"{config} does not name a known encoder; give it as --encoder, so that apply can load it"]
    )
    return Named(base, encoder, notes)


def _encoder_of(model: str | None) -> str | None:
    """Their name of an encoder as ours: the family is read from it; None where it cannot be."""
    if model is None:
        return None
    kind = model.partition(":")[0]
    if model == PACKAGED or kind in READERS:
        return model
    family = next((kind for kind in sorted(READERS, reverse=True) if kind in model.lower()), None)
    return None if family is None else f"{family}:{model}"


def metadata_text(named: Named, internal: bool) -> str | None:
    """metadata.json of a converted checkpoint; None where it needs an encoder that nothing names.

    The revisions are empty: nobody knows them. Size and sampling are the base's own, FLUX.1-Kontext's for a hub id.
    """
    if named.encoder is None and not internal:
        return None
    folder = Path(named.base).expanduser()
    usual = read_defaults(resolve(named.base)) if named.base == "tiny" or folder.is_dir() else Defaults()
    found = ModelMetadata(
        base=named.base,
        base_revision="",
        encoder=named.encoder or "",
        encoder_revision="",
        quadrant=usual.quadrant,
        num_inference_steps=usual.num_inference_steps,
        guidance_scale=usual.guidance_scale,
        extra={},
    )
    return json.dumps(asdict(found), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
