"""The parameters that a job runs under: those of the project, or of a profile in a folder of its own."""

import itertools
from pathlib import Path
from typing import Any, Final

import yaml

from lorweb.config import parse_params
from pipelines._stage import write_text
from pipelines.profile import committed_default, parameters

PARAMS: Final = "params.yaml"


def params_of(root: Path, profile: str = "") -> str:
    """The text of `root`/params.yaml; with a profile, which that folder then belongs to, written there if it has none.

    Outs go beside the parameters that made them, so a folder of other parameters is refused. Where nodes meet is no
    part of a profile: a new folder takes the `storage` of this project, if that names a store.

    Raises:
        FileNotFoundError: no parameters, or no such profile.
        ValueError: they do not fit, or are those of something else.
    """
    path = root / PARAMS
    if profile:
        wanted = parameters(profile, committed_default("HEAD"))
        if not path.exists():
            write_text(path, _with_storage_of(Path(PARAMS), wanted))
        elif _but_storage(_read(path)) != _but_storage(yaml.safe_load(wanted)):
            raise ValueError(
                f"{path} holds other parameters than the profile '{profile}', and outs would lie beside them; give "
                f"--root a folder for this profile (a new one will do), or run `make profile P={profile}`"
            )
    if not path.is_file():
        raise FileNotFoundError(f"no {PARAMS} in {root}; --root must be the project folder")
    text = path.read_text(encoding="utf-8")
    parse_params(_read(path), str(path))
    return text


def _with_storage_of(project: Path, wanted: str) -> str:
    """`wanted` on the store that the parameters in `project` name; as it is where they name none."""
    tree = _read(project) if project.is_file() else {}
    storage = tree.get("storage") if isinstance(tree, dict) else None
    if not isinstance(storage, dict) or not storage.get("uri"):
        return wanted
    header = "".join(itertools.takewhile(lambda line: line.startswith("#"), wanted.splitlines(keepends=True)))
    merged = yaml.safe_load(wanted) | {"storage": storage}
    parse_params(merged, str(project))  # before it is written anywhere
    return header + yaml.safe_dump(merged, sort_keys=False, allow_unicode=True, width=120)


def _but_storage(tree: Any) -> Any:
    return {key: value for key, value in tree.items() if key != "storage"} if isinstance(tree, dict) else tree


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML ({error}); correct it") from error
