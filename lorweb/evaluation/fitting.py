"""Whether a trained model can be asked with what is encoded: equal widths alone would let the wrong query in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lorweb.basis.checkpoint import read_config
from lorweb.kontext.metadata import BASIS_FILE, METADATA_FILE, read_metadata
from lorweb.training.variants import VARIANT

# what a model was trained with and data are encoded with -> the parameter that decides it
DECIDED_BY: Final = {
    "base_revision": "encode.base",
    "encoder_revision": "encode.encoder",
    "query_mode": "encode.query_mode",
    "quadrant": "encode.quadrant",
    "latents": "encode.latents",
}


def trained_with(folder: Path) -> dict[str, Any]:
    """Those of `DECIDED_BY` that a model folder tells and that matter to it; of query and encoder only where it asks.

    Raises:
        ValueError: a damaged header or metadata.json.
    """
    found: dict[str, Any] = {}
    if (folder / BASIS_FILE).is_file():
        config, facts = read_config(folder / BASIS_FILE)
        if not config.internal and facts.get(VARIANT) != "basis_constant":
            found["query_mode"] = config.query_mode
    if (folder / METADATA_FILE).is_file():
        metadata = read_metadata(folder)
        names = [name for name in DECIDED_BY if name != "query_mode"]
        asks = "query_mode" in found
        found |= {name: getattr(metadata, name) for name in names if asks or name != "encoder_revision"}
    return {name: value for name, value in found.items() if value != ""}  # "": nobody knows it


def misfits(trained: Mapping[str, Any], encoded: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{name: (of the model, of the data)} of what differs; `encoded`: parameters in the manifest of data/encoded."""
    present = {"latents": "quadrant", **encoded}  # of data that do not say it
    return {
        name: (trained[name], present[name])
        for name in DECIDED_BY
        if name in trained and name in present and trained[name] != present[name]
    }


def check_fits(model: str, trained: Mapping[str, Any], data: str, encoded: Mapping[str, Any]) -> None:
    """Raises ValueError with the first of `misfits`; `model` and `data` are what the sentence calls the two."""
    for name, (theirs, found) in misfits(trained, encoded).items():
        raise ValueError(
            f"{model} was trained with {name} {theirs}, but {data} has {name} {found}; set {DECIDED_BY[name]} to that "
            "of the model and run encode again, or take a model that was trained on these data"
        )
