"""The parameters that a job runs under: those of the project, or of a profile in a folder of its own."""

from pathlib import Path
from typing import Final

import yaml

from lorweb.config import parse_params
from pipelines._stage import write_text
from pipelines.profile import committed_default, parameters

PARAMS: Final = "params.yaml"


def params_of(root: Path, profile: str = "") -> str:
    """The text of `root`/params.yaml; with a profile, which that folder then belongs to, written there if it has none.

    Outs go beside the parameters that made them, so a folder of other parameters is refused.

    Raises:
        FileNotFoundError: no parameters, or no such profile.
        ValueError: they do not fit, or are those of something else.
    """
    path = root / PARAMS
    if profile:
        wanted = parameters(profile, committed_default("HEAD"))
        if not path.exists():
            write_text(path, wanted)
        elif path.read_text(encoding="utf-8") != wanted:
            raise ValueError(
                f"{path} holds other parameters than the profile '{profile}', and outs would lie beside them; give "
                f"--root a folder for this profile (a new one will do), or run `make profile P={profile}`"
            )
    if not path.is_file():
        raise FileNotFoundError(f"no {PARAMS} in {root}; --root must be the project folder")
    text = path.read_text(encoding="utf-8")
    parse_params(yaml.safe_load(text), str(path))
    return text
