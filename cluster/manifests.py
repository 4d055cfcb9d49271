"""Manifests whose numbers come from a profile: `python -m cluster.manifests --profile paper [--image NAME] [--check]`.

Templates are in cluster/templates; what they render is committed for the profile `paper`. `--check` writes nothing.

Exit code: 0 fine, 1 a file differs (`--check`), 2 bad usage.
"""

import difflib
import re
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from cluster.resources import needs
from lorweb.profiles import load_profile

CODE: Final = Path(__file__).parent
TEMPLATES: Final = CODE / "templates"
RENDERED: Final = ("kuberay/raycluster.yaml", "kuberay/rayjob.yaml", "mlflow.yaml")
LOCK: Final = CODE.parent / "constraints" / "py312-cpu.txt"  # what the image is made from
IMAGE: Final = "lorweb:0.1.0"


def main(
    profile: Annotated[str | None, typer.Option(help="in profiles/; without it params.yaml as it is")] = None,
    image: Annotated[str, typer.Option(help="NAME:VERSION; -cpu and -cuda are put behind it")] = IMAGE,
    gpus_per_pod: Annotated[int, typer.Option(help="GPUs of one pod, at most those of one machine")] = 1,
    out: Annotated[Path, typer.Option(help="folder to write to")] = CODE,
    check: Annotated[bool, typer.Option("--check", help="say what differs from the files, and write nothing")] = False,
) -> None:
    """Write the manifests, or compare them."""
    try:
        rendered = render(profile, image, gpus_per_pod)
    except (ValueError, OSError) as error:
        print(f"manifests: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    if check:
        raise typer.Exit(_compare(rendered, out))
    for name, text in rendered.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text, encoding="utf-8")
        print(out / name)


def render(profile: str | None, image: str = IMAGE, gpus_per_pod: int = 1) -> dict[str, str]:
    """{file below cluster/: its text}. Nothing is loaded or fetched.

    Raises:
        ValueError: the image has no version or `latest`, or parameters do not fit.
        FileNotFoundError: no such profile.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    if not re.fullmatch(r"[a-z0-9][\w./:-]*:[\w.-]+", image) or image.endswith(":latest"):
        raise ValueError(f"image is '{image}'; give NAME:VERSION with a version of its own, as in {IMAGE}")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found = needs(load_profile(CODE.parent, profile), gpus_per_pod)
    values = {"needs": found, "image": image, "profile": profile or "params.yaml", "ray": locked("ray")}
    texts = {name: environment.get_template(f"{Path(name).name}.j2").render(values) for name in RENDERED}
    return {name: re.sub(r"\n\s*\n", "\n", text).strip() + "\n" for name, text in texts.items()}


def locked(package: str) -> str:
    """Version of a package in the image. Raises ValueError where the lock does not say."""
    found = re.search(rf"^{re.escape(package)}==(\S+)$", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{LOCK} pins no {package}; make it anew with `uv pip freeze`")
    return found.group(1)


def _compare(rendered: dict[str, str], out: Path) -> int:
    """1 and a diff on standard output where a file is not what would be written."""
    differs = 0
    for name, text in rendered.items():
        path = out / name
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        if there != text:
            differs = 1
            lines = difflib.unified_diff(
                there.splitlines(), text.splitlines(), str(path), "from the profile", lineterm=""
            )
            print("\n".join(lines))
    if differs:
        print("manifests: files differ from the profile; run without --check to write them", file=sys.stderr)
    return differs


if __name__ == "__main__":
    typer.run(main)
