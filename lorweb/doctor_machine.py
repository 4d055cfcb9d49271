"""What is round a run on this machine: extras, ports, the way to Ray and MLflow, the hub, a browser."""

import importlib.util
import os
import shutil
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lorweb.doctor import Finding
from lorweb.serving.reachable import without_password

__all__ = ["around", "kind_of", "without_password"]

EXTRAS: Final = {  # module -> what it is for, and how to get it
    "gradio": "the web demo: pip install -e '.[demo]'",
    "torchao": "an int8 base and adamw_8bit: pip install -e '.[quant]'",
    "bitsandbytes": "adamw_8bit_bitsandbytes: pip install -e '.[bitsandbytes]'",
    "prodigyopt": "the optimizer prodigy: pip install -e '.[prodigy]'",
    "aiohttp_cors": "submitting jobs to a cluster: pip install -e '.[cluster]'",
}
PORTS: Final = {7860: "the demo: lorweb demo --port NUMBER", 5000: "mlflow server or mlflow ui: --port NUMBER"}
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
MADE_LATER: Final = " (made by the first run)"
_TIMEOUT: Final = 3.0  # s, for a cluster's sign of life
_RAY_PORT: Final = 6379


def around() -> Iterator[Finding]:
    """Findings that no profile needs, and one on the Ray that stages would attach to."""
    yield from _extras()
    yield from _ray()
    yield from _ports()
    yield from _hub()
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    yield Finding(
        "browser",
        "ok" if browser else "note",
        browser or "no Chromium; only tests of the web page need it: apt-get install chromium",
    )


def kind_of(uri: str) -> str:
    """What keeps the registry: a database file, a database server, a tracking server, or a folder."""
    scheme = uri.partition("://")[0].partition("+")[0]
    kinds = {"sqlite": "an SQLite database", "http": "a server", "https": "a server", "postgresql": "Postgres"}
    kinds |= {
        "mysql": "MySQL",
        "mssql": "SQL Server",
        "file": "a folder, which MLflow gives up",
        "databricks": "a cloud",
    }
    return kinds.get(scheme, "an address")


def _extras() -> Iterator[Finding]:
    for module, what in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        name = "ray[default]" if module == "aiohttp_cors" else module  # that package is what the extra brings
        yield Finding(
            name, "ok" if there else "note", "installed" if there else f"not installed; only needed for {what}"
        )


def _ray() -> Iterator[Finding]:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield Finding("ray address", "ok", "RAY_ADDRESS is not set: Ray starts on this machine")
        return
    parts = urllib.parse.urlsplit(address if "://" in address else f"ray://{address}")
    if address in ("auto", "local") or not parts.hostname:
        yield Finding("ray address", "ok", f"RAY_ADDRESS is {address}")
        return
    try:
        socket.create_connection((parts.hostname, parts.port or _RAY_PORT), _TIMEOUT).close()
    except (OSError, ValueError) as error:
        yield Finding(
            "ray address",
            "missing",
            f"nothing answers at RAY_ADDRESS={address} ({error}); start the cluster, or unset it to run here",
        )
    else:
        yield Finding("ray address", "ok", f"RAY_ADDRESS={address} answers")


def _ports() -> Iterator[Finding]:
    for port, what in PORTS.items():
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed one may linger
                probe.bind(("127.0.0.1", port))
        except OSError:
            yield Finding(f"port {port}", "note", f"in use; take another one for {what}")
        else:
            yield Finding(f"port {port}", "ok", f"free, for {what.partition(':')[0]}")


def _hub() -> Iterator[Finding]:
    """The hub's token; its value is never shown."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    there = bool(os.environ.get("HF_TOKEN")) or (home / "token").is_file()
    text = "there" if there else "none; gated models need one: accept their licence on their page, then `hf auth login`"
    yield Finding("hub token", "ok" if there else "note", text)
