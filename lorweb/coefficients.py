"""Where `lorweb mix` and `lorweb bake` take their coefficients from: exemplar pairs and query images, or files.

Legend: B queries, L layers, N LoRAs per layer.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorweb.basis.mix_files import MixFile


@dataclass(frozen=True)
class Source:
    """Either exemplar pairs (a, a') of one edit with query images b, or coefficient files as FILE or FILE:WEIGHT."""

    pairs: list[tuple[Path, Path]]
    queries: list[Path]
    files: list[str]

    def read(self) -> list[Path]:
        """All files that it names. Raises ValueError as `parse_terms` does."""
        from lorweb.basis.mix_files import parse_terms

        return [
            *(path for pair in self.pairs for path in pair),
            *self.queries,
            *(t.path for t in parse_terms(self.files)),
        ]


def source_of(images: list[Path | None], pairs: list[str], files: list[str]) -> Source:
    """From the command line: A, A2 and the B's in order (None where absent), further `--pair`s, and `--mix` files.

    Raises:
        ValueError: neither A A2 B nor a file, or both; or a pair that is not two files.
    """
    given = [image for image in images if image is not None]
    if files and (given or pairs):
        raise ValueError("--mix stands in for A A2 B and --pair; give one or the other")
    if not files and len(given) < 3:
        raise ValueError("give an exemplar pair and a query image as A A2 B, or coefficient files with --mix FILE")
    if files:
        return Source([], [], files)
    return Source([(given[0], given[1]), *(_pair(text) for text in pairs)], given[2:], [])


def coefficients(basis: Path, source: Source) -> "MixFile":
    """The mean of e [L, N] over all pairs and queries, or the weighted sum of the files; with where it came from.

    Only images need the base and the encoder: adding files loads neither.

    Raises:
        FileNotFoundError: an image or a file is missing.
        ValueError: an image cannot be read, a file is of another basis, or this basis has internal queries.
    """
    from lorweb.basis.mix_files import MixFile, combine, parse_terms
    from lorweb.basis.mixes import average
    from lorweb.commands import read_image
    from lorweb.data.manifest import file_sha256
    from lorweb.kontext.quiet import quiet

    if source.files:
        return combine(parse_terms(source.files), basis)
    with quiet():
        from lorweb.kontext.pipeline import AnalogyPipeline

        pipe = AnalogyPipeline.from_pretrained(basis)
    queries = [read_image(path) for path in source.queries]
    mixes_BLN = [pipe.mix(read_image(a), read_image(a2), queries) for a, a2 in source.pairs]
    facts: dict[str, Any] = {
        "base": pipe.base.name,
        "query_mode": pipe.config.query_mode,
        "pairs": [[a.name, a2.name] for a, a2 in source.pairs],
        "queries": [path.name for path in source.queries],
    }
    return MixFile(average([mix_LN for mix_BLN in mixes_BLN for mix_LN in mix_BLN]), file_sha256(basis), facts)


def shaped(mix: "MixFile", keep: int | None, keep_sum: bool, factor: float) -> "MixFile":
    """The mix with its `keep` largest coefficients per layer, times `factor`; both are added to its facts.

    Raises:
        ValueError: as `keep_top` and `scale` do.
    """
    from lorweb.basis.mixes import keep_top, scale

    if keep_sum and keep is None:
        raise ValueError("--keep-sum says how to keep the largest coefficients; give their number with --keep M")
    mix_LN = mix.mix_LN if keep is None else keep_top(mix.mix_LN, keep, keep_sum)
    told = {} if keep is None else {"keep": keep, "keep_sum": keep_sum}
    return replace(mix, mix_LN=scale(mix_LN, factor), facts={**mix.facts, **told, "scale": factor})


def check_rank(rank: int | None, basis: Path) -> None:
    """Refuse a rank for a bake that no update of these layers can have, before the base is loaded.

    Up to there zeros pad it, as hot swap wants it: another basis on the same layers may need it.

    Raises:
        ValueError: the rank is above N*r, and above the smaller side of every layer.
    """
    from lorweb.basis.bare import load_bare
    from lorweb.basis.inject import basis_layers, router_of

    if rank is None:
        return
    bare = load_bare(basis)  # not kept: the base comes next
    widest = max(min(layer.in_features, layer.out_features) for layer in basis_layers(bare).values())
    most = max(widest, router_of(bare).config.total_rank)
    if rank > most:
        raise ValueError(f"--rank is {rank}, but no update of these layers has a rank above {most}; give 1 to {most}")


def _pair(text: str) -> tuple[Path, Path]:
    """`A,A2`; names may hold commas as long as one split gives two files."""
    parts = text.split(",")
    splits = [(Path(",".join(parts[:i])), Path(",".join(parts[i:]))) for i in range(1, len(parts))]
    found = [split for split in splits if all(path.is_file() for path in split)]
    if len(found) != 1:
        raise ValueError(f"--pair {text}: give two image files with a comma between them, as --pair A.png,A2.png")
    return found[0]
