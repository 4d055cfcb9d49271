"""Which folders of a project's data belong together: each manifest names what it was made from by content hash."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lorweb.data.manifest import MANIFEST, file_sha256, fingerprint, read_manifest

INPUTS: Final = {  # folder -> the folders it is made from
    "encoded": ("analogies", "pairs"),
    "analogies": ("pairs",),
    "pairs": ("candidates",),
    "candidates": ("sources",),
}
ASIDE: Final = "encoded"  # computed from pairs: what it was made from is reached without it


@dataclass(frozen=True)
class Link:
    """What `made` says of the content of `source`, and what lies there."""

    made: str
    source: str
    expected: str  # hash at the time
    found: str  # hash now; "" where nothing is there

    @property
    def holds(self) -> bool:
        """Whether it is the same content."""
        return bool(self.expected) and self.expected == self.found

    def tree(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "holds": self.holds}

    def sentence(self) -> str:
        """What is wrong with it."""
        if not self.expected:
            return f"{self.made} does not say which {self.source} it was made from"
        if not self.found:
            return f"{self.made} was made from {self.source} {self.expected}, which is not here"
        return f"{self.made} was made from {self.source} {self.expected}, but here it is {self.found}"


class Chain:
    """Links between the folders below `data`, each looked at once. Files are read only when `verify` is asked for."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.links: list[Link] = []
        self.faults: list[str] = []
        self._known: dict[str, tuple[str, dict[str, Any]]] = {}

    def here(self, name: str) -> tuple[str, dict[str, Any]]:
        """(content hash, manifest) of a folder; ("", {}) where it is not here or cannot be read."""
        if name not in self._known:
            folder = self.data / name
            try:
                self._known[name] = (fingerprint(folder), read_manifest(folder))
            except FileNotFoundError:
                self._known[name] = ("", {})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self.faults.append(f"{folder / MANIFEST} cannot be read ({error}); run its stage again")
                self._known[name] = ("", {})
        return self._known[name]

    def follow(self, made: str, source: str, expected: str) -> bool:
        """Go from what `made` says to the folder `source`; whether the link holds."""
        link = Link(made, source, expected, self.here(source)[0])
        if link not in self.links:
            self.links.append(link)
        return link.holds

    def down(self, name: str) -> bool:
        """From a folder that belongs to the trace to what it was made from, as far as links hold; whether all did."""
        if not self.here(name)[0]:
            return False
        inputs: Mapping[str, str] = self.here(name)[1].get("inputs", {})
        sources = INPUTS.get(name, ())
        held = [self.follow(name, source, str(inputs.get(source, ""))) and self.down(source) for source in sources]
        return all(held)

    def holds(self, made: str, source: str) -> bool:
        """Whether both are here and belong together."""
        return any(link.holds for link in self.links if (link.made, link.source) == (made, source))

    def verify(self) -> list[str]:
        """Sentences on files that are not what their manifests say, in all folders that were looked at."""
        wrong = []
        for name, (found, manifest) in sorted(self._known.items()):
            for file, digest in manifest["files"].items() if found else ():
                path = self.data / name / file
                if not path.is_file():
                    wrong.append(f"{path} is in the manifest, but not here; run `dvc checkout`, or its stage again")
                elif file_sha256(path) != digest:
                    wrong.append(f"{path} is not what its manifest says; run `dvc checkout`, or its stage again")
        return wrong

    def broken(self, aside: bool = False) -> list[str]:
        """Sentences on everything that keeps the trace from its end; with `aside` on what it does not need for that."""
        odd = [
            link.sentence() for link in self.links if not link.holds and (ASIDE in (link.made, link.source)) == aside
        ]
        return odd if aside else [*self.faults, *odd]
