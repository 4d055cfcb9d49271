"""Visual analogies a : a' :: b : b' by a learned basis of LoRAs (LoRWeB, arXiv:2602.15727) on FLUX.1-Kontext."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorweb.kontext.pipeline import AnalogyPipeline

__all__ = ["AnalogyPipeline"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import on first use: `import lorweb.config` must not cost the seconds that torch and diffusers take."""
    if name == "AnalogyPipeline":
        from lorweb.kontext.pipeline import AnalogyPipeline

        return AnalogyPipeline
    raise AttributeError(f"module 'lorweb' has no attribute '{name}'")
