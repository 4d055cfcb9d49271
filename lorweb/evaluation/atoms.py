"""What each atom does alone: b' with one LoRA of every layer and no other, at several strengths.

The exemplar shows no edit (a' = a) and there is no prompt, so that what changes from the first column on comes from the
atom. The same number names another LoRA in every layer; together they are one column of the basis. At strength
1 its coefficient is 1, the largest that a mix can hold.

Legend: L layers, N LoRAs per layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import torch

from lorweb.evaluation.painter import Settings
from lorweb.evaluation.pictures import png_bytes
from lorweb.storage.places import local

ATOMS_VERSION: Final = "1"  # goes up when the same weights and settings would give other images
NO_ATOM: Final = -1  # the base alone, what the others are looked at beside
ATOM: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # "<analogy>:<atom>:<strength>"
        pa.field("analogy", pa.string(), nullable=False),  # whose b it is
        pa.field("atom", pa.int64(), nullable=False),
        pa.field("strength", pa.float64(), nullable=False),
        pa.field("image", pa.large_binary(), nullable=False),  # PNG of b', quadrant size
    ]
)


@dataclass(frozen=True)
class Subject:
    """One b that the atoms are tried on, as encoded."""

    analogy: str
    exemplar: str  # pair whose before is shown as a and as a'
    query: str  # pair whose before is b
    seed: int


@dataclass(frozen=True)
class AtomGallery:
    """Images of the page: for each atom (most used first) one row, for each subject the strengths in order."""

    strengths: tuple[float, ...]
    subjects: Sequence[tuple[bytes, bytes]]  # b, and b' of the base alone
    atoms: Sequence[tuple[int, float]]  # number, and its share of all use: 1 / N is even
    images: Mapping[tuple[int, int, float], bytes]  # (atom, place of the subject, strength)


def atom_items(
    subjects: Sequence[Subject], atoms: Sequence[int], strengths: Sequence[float], weights: str
) -> list[dict[str, Any]]:
    """One item per image; `weights` (a hash) makes a retrained model other work."""
    wanted = [(NO_ATOM, 0.0), *((atom, strength) for atom in atoms for strength in strengths)]
    return [
        {
            "id": f"{subject.analogy}:{atom:04d}:{strength:g}",
            "analogy": subject.analogy,
            "exemplar": subject.exemplar,
            "query": subject.query,
            "seed": subject.seed,
            "atom": atom,
            "strength": float(strength),
            "weights": weights,
        }
        for subject in subjects
        for atom, strength in wanted
    ]


class DrawAtoms:
    """Items of `atom_items` -> ATOM rows."""

    def __init__(self, encoded: Path, weights: Path, settings: Settings) -> None:
        """`weights`: folder of the candidate.

        Raises:
            FileNotFoundError, ValueError: base, weights or encoded images are missing or do not fit.
        """
        from lorweb.kontext.load import load_base
        from lorweb.training.baseline import load_variant
        from lorweb.training.dataset import Encoded

        self.encoded, self.settings = Encoded.load(encoded), settings
        cuda = settings.device == "cuda"
        self.base = load_base(settings.base, torch.bfloat16 if cuda else torch.float32, settings.device)
        load_variant(self.base.transformer, local(weights))
        self.base.transformer.to(self.base.device).eval()

    def __call__(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # one at a time: in a batch, rounding depends on who else is in it, and a resumed run batches differently
        return [self._draw(item) for item in items]

    @torch.no_grad()
    def _draw(self, item: dict[str, Any]) -> dict[str, Any]:
        from lorweb.basis import analogy, router_of
        from lorweb.kontext.codec import decode_quadrants
        from lorweb.kontext.denoise import Sampling, denoise_grids

        a, b = self.encoded.pairs[item["exemplar"]][0], self.encoded.pairs[item["query"]][0]
        control_BCHW = self.encoded.stored.control(torch.tensor([[a, a, b]]))
        mix_LN = torch.zeros(router_of(self.base.transformer).keys.shape[:2])
        if item["atom"] != NO_ATOM:
            mix_LN[:, item["atom"]] = 1.0
        sampling = Sampling(self.settings.steps, self.settings.guidance)
        with analogy(self.base.transformer, mix=mix_LN, strength=item["strength"]):
            grids_BCHW = denoise_grids(self.base, control_BCHW, self.encoded.text(""), [item["seed"]], sampling)
        ((image,),) = decode_quadrants(self.base, grids_BCHW, [(1, 1)], self.encoded.composition)
        row = {name: item[name] for name in ("id", "analogy", "atom", "strength")}
        return {**row, "image": png_bytes(image)}
