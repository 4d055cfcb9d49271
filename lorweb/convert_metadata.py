"""metadata.json for a checkpoint that another program trained: which base and which encoder it needs."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lorweb.basis.encoder_names import our_name
from lorweb.basis.official_config import named_base, named_encoder
from lorweb.basis.vision import READERS
from lorweb.hub import is_hub_id
from lorweb.kontext.load import Defaults, read_defaults, resolve
from lorweb.kontext.metadata import ModelMetadata
from lorweb.sizes import KONTEXT


@dataclass(frozen=True)
class Named:
    """Names as `load_base` and `load_encoder` take them; None: nothing names the encoder."""

    base: str
    encoder: str | None


def named_in(config: Path, own: ModelMetadata | None, base: str | None, encoder: str | None) -> Named:
    """Base and encoder of an official checkpoint: as asked, else as our own metadata in it say, else its config.yaml.

    Raises:
        ValueError: no base is named.
    """
    base = base or (own.base if own else named_base(config))
    if base is None:
        raise ValueError(f"{config} does not name the base it was trained on; give it as --base, for example {KONTEXT}")
    return Named(base, encoder or (own.encoder if own else our_name(named_encoder(config))))


def their_name(encoder: str) -> str | None:
    """Our name of an encoder as other programs know it: a hub id without its family; None for ""."""
    kind, _, rest = encoder.partition(":")
    return rest if kind in READERS and is_hub_id(rest) and not Path(rest).exists() else encoder or None


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
        encoder="" if internal else named.encoder or "",
        encoder_revision="",
        quadrant=usual.quadrant,
        num_inference_steps=usual.num_inference_steps,
        guidance_scale=usual.guidance_scale,
        extra={},
        latents="grid",  # their trainer and their inference encode the composed picture
    )
    return json.dumps(asdict(found), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
