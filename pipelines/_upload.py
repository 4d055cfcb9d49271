"""The code that travels to a cluster: what .rayignore leaves, and never much of it."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pipelines._code import CODE as STAGES
from pipelines._code import ROOT

CODE: Final = ("lorweb", "pipelines", "cluster")
MAP: Final = "dvc.yaml"  # says which code a stage depends on
IGNORE: Final = ".rayignore"
MARK: Final = "upload.txt"  # what makes a copy unlike all others
MAX_UPLOAD: Final = 60 << 20  # bytes; Ray refuses more than a few hundred MB, and a larger upload means data slipped in
_NEVER: Final = ("__pycache__", "*.pyc", "*.egg-info", "*.tmp")


def code_files(code: Path = ROOT) -> list[Path]:
    """What is uploaded, sorted: the folders of code and the map of stages, without what .rayignore names."""
    from pathspec import GitIgnoreSpec

    ignore = code / IGNORE
    listed = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    left_out = GitIgnoreSpec.from_lines([*listed, *_NEVER])
    files = [path for folder in CODE for path in sorted((code / folder).rglob("*")) if path.is_file()]
    return [path for path in [code / MAP, *files] if not left_out.match_file(path.relative_to(code).as_posix())]


def deciding_files(code: Path = ROOT) -> list[Path]:
    """Of what is uploaded, what decides outs: modules, the map of stages, and data packaged with the code of stages.

    Guides, manifests and images for a cluster travel as well, and decide none.
    """
    files = [(path, path.relative_to(code)) for path in code_files(code)]
    return [
        path
        for path, name in files
        if name.suffix == ".py"
        or name.as_posix() == MAP
        or (name.parts[0] in STAGES and name.suffix not in (".md", ".typed"))
    ]


def upload(code: Path = ROOT) -> int:
    """Bytes that would travel. Raises ValueError when they are too many."""
    sizes = {path: path.stat().st_size for path in code_files(code)}
    total = sum(sizes.values())
    if total > MAX_UPLOAD:
        largest = max(sizes, key=sizes.__getitem__)
        raise ValueError(
            f"the upload would be {total / 2**20:.0f} MiB, over {MAX_UPLOAD >> 20} MiB, "
            f"{largest.relative_to(code)} the largest file of it; keep data out of {', '.join(CODE)}, or name it in "
            f"{IGNORE}"
        )
    return total


@contextmanager
def code_copy(code: Path = ROOT) -> Iterator[Path]:
    """A folder with a copy of the code alone, for Ray to upload. Raises ValueError where that is too much.

    No two copies are alike: Ray deletes a package when the last job that uses it ends, and a job that was just told
    that the same package is there already would be left without.
    """
    upload(code)
    with tempfile.TemporaryDirectory(prefix="lorweb-upload-") as folder:
        for path in code_files(code):
            copy = Path(folder) / path.relative_to(code)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        (Path(folder) / MARK).write_text(secrets.token_hex(16), encoding="utf-8")
        yield Path(folder)
