"""The code that a worker runs: its module, what that imports, all the way, and the packaged data that these name.

Imports are read from the source text and never executed; those inside functions count. So work that was done by other
code counts as not done, and a change anywhere else leaves it alone.

A package's `__init__` counts where something is imported from the package by name. Where it is only passed on the way
to a module, it does not: packages do nothing but gather names, which a test holds.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
CODE: Final = ("lorweb", "pipelines")  # folders of the project that hold code
# Where a closure ends. The engine, with storage, carries rows and decides no value in them: its journals' format
# has a number of its own (`_journal.FORMAT`). Of parameters, the values count, which jobs name in their identity; not
# the types.
ENGINE: Final = tuple(
    f"pipelines/_{name}.py"
    for name in (
        "rows",
        "journal",
        "batches",
        "results",
        "pace",
        "metrics",
        "stage",
        "record",
        "code",
        "lineage",
        "mlflow_run",
        "runner",
        "copies",
        "node",
        "launch",
        "upload",
    )
) + tuple(sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "lorweb/storage").glob("*.py")))
PARAMETERS: Final = (
    "lorweb/config.py",
    "lorweb/config_errors.py",
    "lorweb/sections.py",
    "lorweb/storage/entries.py",
    "lorweb/data/editors/entries.py",
    "lorweb/data/scorers/entries.py",
    "lorweb/evaluation/entries.py",
    "lorweb/evaluation/gate_entries.py",
    "lorweb/training/entries.py",
    "lorweb/training/limits.py",
)
_MODULE: Final = re.compile(r"\w+(\.\w+)+")
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def worker_code(worker: Callable[..., Any], picked: Mapping[str, str], root: Path = ROOT) -> str:
    """Hash of the code of a worker and of its packaged data, 16 hex digits."""
    file = sys.modules[worker.__module__].__file__  # not by name: the same where the module runs as __main__
    assert file is not None, f"{worker} was typed in; a worker must stand in a file"
    start = Path(file).relative_to(ROOT) if Path(file).is_relative_to(ROOT) else file
    return _code(str(start), tuple(sorted(picked.items())), root)


def worker_files(start: str, picked: Mapping[str, str], root: Path = ROOT) -> set[Path]:
    """The code of the worker that stands in the file `start`, relative to `root` as all names are.

    `picked`: registry -> the file that a job uses of it (absolute where it lies elsewhere, "" where the job uses none).
    A registry imports its kinds inside functions, each where it is asked for; of these, only the picked one counts.
    """
    starts = [root / start, *(root / kind for kind in picked.values() if kind)]
    return closure(starts, root, [*ENGINE, *PARAMETERS], list(picked))


@lru_cache
def _code(start: str, picked: tuple[tuple[str, str], ...], root: Path) -> str:
    files = worker_files(start, dict(picked), root)
    return hash_of([*files, *packaged_data(files, root)], root)


def hash_of(files: Iterable[Path], root: Path) -> str:
    """Hash of names and bytes, 16 hex digits; the names are relative to `root`, or bare where a file lies elsewhere."""
    digest = hashlib.sha256()
    for name, path in sorted({(_below(path, root).as_posix(), path) for path in files}):
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def closure(
    starts: Iterable[Path], root: Path = ROOT, closed: Collection[str] = (), registries: Collection[str] = ()
) -> set[Path]:
    """The project's own files that `starts` import, and what these import, all the way; `starts` among them.

    `closed` files (relative to `root`) are left out with what only they import; of `registries`, imports inside
    functions do not count.
    """
    ends = {root / name for name in closed}
    lazy = {root / name for name in registries}
    seen: set[Path] = set()
    todo = list(starts)
    while todo:
        at = todo.pop()
        if at not in seen and at not in ends:
            seen.add(at)
            todo += _imported(at, root, inside_functions=at not in lazy)
    return seen


def packaged_data(files: Iterable[Path], root: Path = ROOT) -> set[Path]:
    """Files beside the code, as weights and pages, that a text constant in one of `files` names.

    What is named is the file, or the folder below a package that holds it: rather too much than too little.
    """
    named = {
        part
        for path in files
        for node in ast.walk(_parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for part in node.value.split("/")
    }
    held = (entry for entry in data_entries(root) if entry.name in named)
    return {path for entry in held for path in ([entry] if entry.is_file() else entry.rglob("*")) if path.is_file()}


def data_entries(root: Path = ROOT) -> Iterator[Path]:
    """Files that are no code, and folders that hold none, directly in a package."""
    packages = [init.parent for name in CODE for init in (root / name).rglob("__init__.py")]
    for entry in (entry for package in packages for entry in package.iterdir()):
        if entry.is_dir():
            if entry.name != "__pycache__" and not (entry / "__init__.py").exists():
                yield entry
        elif entry.suffix not in (".py", ".pyc") and entry.name != "py.typed":
            yield entry


def _imported(path: Path, root: Path, *, inside_functions: bool) -> Iterator[Path]:
    for node in _nodes(_parsed(path), inside_functions):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = list(_below(path, root).parent.parts)
            base = [*parents[: len(parents) + 1 - node.level]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
            names = [node.value]  # for importlib: the name of a module as text
        for name in (name for name in names if name.split(".")[0] in CODE):
            stem = name.replace(".", "/")
            yield from (file for end in (".py", "/__init__.py") if (file := root / f"{stem}{end}").is_file())


def _nodes(tree: ast.AST, inside_functions: bool) -> Iterator[ast.AST]:
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        todo += [n for n in ast.iter_child_nodes(node) if inside_functions or not isinstance(n, _FUNCTIONS)]


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
