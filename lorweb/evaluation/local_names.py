"""Names of bases, encoders and judges as they may be published: a folder of this machine by its own name alone."""

from pathlib import Path


def base_name(base: str) -> str:
    """A hub id or a packaged name as it is; of a folder, which a relative path that exists is too, its last part."""
    looks_like_id = base.count("/") <= 1 and base[:1] not in ("/", ".", "~") and not base.endswith("/")
    return base if looks_like_id and not Path(base).exists() else Path(base).expanduser().resolve().name


def encoder_name(encoder: str) -> str:
    """The encoder without the folder that its weights lie in: `clip:/here/vit` is `clip:vit`."""
    kind, colon, where = encoder.partition(":")
    return f"{kind}:{base_name(where)}" if colon and where else encoder
