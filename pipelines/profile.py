"""Select a profile: `python -m pipelines.profile NAME` writes params.yaml from profiles/NAME.yaml over the defaults."""

import argparse
import subprocess
from functools import reduce
from pathlib import Path
from typing import Final

import yaml

from lorweb.config import parse_params
from lorweb.config_errors import unknown_name
from lorweb.profiles import merge, profile_layers
from pipelines._stage import write_text

PARAMS, PROFILES = Path("params.yaml"), Path("profiles")
DEFAULT: Final = "default"
HEADER: Final = "# profile: "


def committed_default(revision: str) -> str:
    """params.yaml as committed. Raises ValueError where git cannot give it, or where it holds another profile."""
    command = ["git", "show", f"{revision}:./{PARAMS}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    except OSError as error:
        raise ValueError(f"the default parameters come from git, which cannot be run ({error})") from error
    if done.returncode:
        raise ValueError(f"git has no {PARAMS} at {revision}: {done.stderr.strip()}; give --base REV")
    if not done.stdout.startswith(f"{HEADER}{DEFAULT}\n"):
        raise ValueError(
            f"{PARAMS} at {revision} holds another profile than '{DEFAULT}'; give --base REV of one that does"
        )
    return done.stdout


def parameters(name: str, default: str) -> str:
    """The text of params.yaml under a profile.

    Raises:
        FileNotFoundError, ValueError: see `profile_layers`; or values that do not fit.
    """
    if name == DEFAULT:
        parse_params(yaml.safe_load(default), f"the committed {PARAMS}")
        return default
    known = [DEFAULT, *sorted(path.stem for path in PROFILES.glob("*.yaml"))]
    if name not in known:
        raise ValueError(unknown_name("profile", name, known))
    path = PROFILES / f"{name}.yaml"
    merged = reduce(merge, profile_layers(PROFILES, name), yaml.safe_load(default))
    parse_params(merged, str(path))
    body = yaml.safe_dump(merged, sort_keys=False, allow_unicode=True, width=120)
    note = f"# Written from {path} over the committed default; `make profile P={DEFAULT}` brings that back.\n"
    return f"{HEADER}{name}\n{note}{body}"


def main() -> None:
    """Write params.yaml."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.profile", description=__doc__)
    parser.add_argument("name", help=f"'{DEFAULT}', or a file in {PROFILES}/ without its ending")
    parser.add_argument("--base", default="HEAD", metavar="REV", help="commit whose params.yaml is the default (HEAD)")
    given = parser.parse_args()
    try:
        write_text(PARAMS, parameters(given.name, committed_default(given.base)))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"profile: {error}") from error
    print(f"params.yaml now holds the profile '{given.name}'")


if __name__ == "__main__":
    main()
