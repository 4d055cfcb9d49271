"""What is wrong with files that were hashed again (`_integrity.py`), and the command that brings each back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorweb.data.manifest import MANIFEST, file_sha256, fingerprint, read_manifest
from pipelines._integrity import DAMAGED, GOOD, NOT_LISTED, Checked, shown

if TYPE_CHECKING:
    from dvc.output import Output

DISCARD: Final = "python -m pipelines.verify --discard"
PUSH: Final = "python -m pipelines.verify --push"  # DVC takes a folder to be there whole if its list of files is


@dataclass(frozen=True)
class Fault:
    """Something that is not as dvc.lock says, and what to do. `value`: the hash of an object, if one is at fault."""

    place: str  # workspace, cache, remote or manifest
    state: str
    name: str  # of the file in the project
    path: str  # of the copy that is at fault
    stage: str
    remedy: str
    value: str = ""

    @property
    def damaged(self) -> bool:
        """It is there, with other bytes."""
        return self.state == DAMAGED

    def __str__(self) -> str:
        where = "" if self.path.endswith(self.name.rstrip("/")) else f": {shown(self.path)}"
        made = f" (made by {self.stage})" if self.stage else ""
        return f"{self.place:<9} {self.state:<10} {self.name}{made}{where}\n{'':>20} -> {self.remedy}"


def faults_of(checked: Checked) -> Iterator[Fault]:
    """What is wrong with the copies of one file, or of the list of a folder's files."""
    stage = checked.out.stage.addressing
    for place, copy in checked.copies.items():
        if copy.state != GOOD:
            name = f"{checked.name} (list of its files)" if checked.listing else checked.name
            yield Fault(place, copy.state, name, copy.path, stage, _remedy(checked, place), copy.value)


def _remedy(checked: Checked, place: str) -> str:
    """The shortest way back, by which other copies are good."""
    if not checked.out.use_cache:
        return f"git checkout -- {checked.name}, or {_anew(checked.out)}"
    state = {name: copy.state for name, copy in checked.copies.items()}
    if place == "remote":
        return PUSH if state["cache"] == GOOD else "no good copy is here either: push it from a clone that has one"
    return _of_cache(checked, state) if place == "cache" else _of_workspace(checked, state)


def _of_cache(checked: Checked, state: Mapping[str, str]) -> str:
    stage = checked.out.stage.addressing
    first = f"{DISCARD}, then " if state["cache"] == DAMAGED else ""
    if state.get("workspace") == GOOD:
        return f"{first}dvc commit --force {stage}"
    return f"{first}dvc fetch {stage} (from a remote), or {_anew(checked.out)}"


def _of_workspace(checked: Checked, state: Mapping[str, str]) -> str:
    folder = shown(checked.out.fs_path)
    if state["workspace"] == NOT_LISTED:
        return f"no version has it: move it away, or dvc commit {checked.out.stage.addressing} if it belongs there"
    away = f"rm -r {checked.name} && " if state["workspace"] == DAMAGED else ""
    first = "" if state["cache"] == GOOD else "first its copy in the cache, see there; then "
    return f"{first}{away}dvc checkout --force {folder}"


def _anew(out: "Output") -> str:
    stage = out.stage
    if stage.cmd:
        return f"dvc repro --force --single-item {stage.addressing}"
    return f"dvc update {stage.addressing}" if stage.is_import else "your own copy of it: no stage makes it"


def faults_of_manifest(out: "Output") -> Iterator[Fault]:
    """Digests that a stage wrote, against the files; and the inputs that it says it read, against those that are here.

    They were taken before DVC saw the files: what was damaged in between is found here alone.
    """
    folder, stage = Path(out.fs_path), out.stage.addressing
    if not (folder / MANIFEST).is_file():
        return
    again = f"dvc repro --force --single-item {stage}"
    try:
        facts = read_manifest(folder)
        for name, sha256 in facts["files"].items():
            path = folder / name
            if not path.is_file() or file_sha256(path) != sha256:
                yield Fault("manifest", "differs", shown(path), str(path), stage, again)
        for name, told in facts["inputs"].items():
            source = folder.parent / name
            if (source / MANIFEST).is_file() and fingerprint(source) != told:
                what = f"{shown(folder)} was made from another {shown(source)}"
                yield Fault("manifest", "stale", what, str(folder), stage, f"dvc repro {stage}, or dvc checkout")
    except (ValueError, KeyError, OSError) as error:
        yield Fault("manifest", "unreadable", shown(folder / MANIFEST), f"{error}", stage, again)
