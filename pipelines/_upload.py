"""The code that travels to a cluster: what it is, how large, and a copy that holds nothing else."""

import fnmatch
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

CODE: Final = ("lorweb", "pipelines", "cluster")
LEFT_OUT: Final = ("__pycache__", "*.pyc", "*.egg-info")
MAX_UPLOAD: Final = (
    60 * 2**20
)  # bytes; Ray refuses more than a few hundred MB, and a larger upload means data slipped in


def code_files(code: Path) -> Iterator[Path]:
    """What is uploaded, sorted."""
    yield code / "dvc.yaml"  # says which code a stage depends on
    for folder in CODE:
        for path in sorted((code / folder).rglob("*")):
            if path.is_file() and not any(fnmatch.fnmatch(part, p) for part in path.parts for p in LEFT_OUT):
                yield path


def upload(code: Path) -> int:
    """Bytes that would travel. Raises ValueError when they are too many."""
    size = sum(path.stat().st_size for path in code_files(code))
    if size > MAX_UPLOAD:
        raise ValueError(
            f"the upload would be {size / 2**20:.0f} MiB, over {MAX_UPLOAD / 2**20:.0f} MiB; keep data out of "
            f"{', '.join(CODE)}"
        )
    return size


@contextmanager
def code_copy(code: Path) -> Iterator[Path]:
    """A temporary folder with the code alone, as Ray's `working_dir`. Raises as `upload` does."""
    upload(code)
    with tempfile.TemporaryDirectory(prefix="lorweb-upload-") as name:
        folder = Path(name)
        for path in code_files(code):
            copy = folder / path.relative_to(code)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        yield folder
