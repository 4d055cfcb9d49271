"""What goes in and out of a benchmark: its options, the machine, a row on the screen, the JSON file.

A row is {"name", "rival", "ratio", "low", "high", "target", "met", "unit", "n", "ms", "rival_ms", "machine",
"command"}. `ratio` is the median over rounds of (ours / rival) within one round, `low` and `high` its 90 % bootstrap
interval, `n` the number of rounds, `ms` and `rival_ms` median times. A target is met if the median is within it; where
it is not, "profile" says which operators took how many milliseconds on both sides. Rows without a target say null in
both. A row about memory has {"mb", "rival_mb"} in the place of times and interval.
"""

import argparse
import json
import os
import platform
import re
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd")


def machine(precision: str = "float32") -> str:
    """Hardware and versions in one line."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = re.search(r"model name\s*: (.+)", text)
    flags = set(re.findall(r"^(?:flags|Features)\s*: (.+)", text, re.M)[0].split()) if model else set()
    built = torch.__config__.show()
    blas = re.search(r"BLAS_INFO=(\w+)", built)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "peft"))
    return (
        f"{model[1] if model else platform.machine()} ({' '.join(flag for flag in FLAGS if flag in flags)}), "
        f"{torch.get_num_threads()} threads of {len(re.findall('^processor', text, re.M)) or '?'} cores, "
        f"BLAS {blas[1] if blas else 'unknown'}, Python {platform.python_version()}, {packages}, {precision}"
    )


def accelerated(where: str, device: torch.device) -> str:
    """The same with the device in front, unless that is the CPU."""
    if device.type == "cpu":
        return where
    return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, {where}"


def parser(doc: str | None, script: str) -> argparse.ArgumentParser:
    """The options of every script; give its __doc__ and __file__."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.set_defaults(script=Path(script).name)
    made.add_argument("--json", type=Path, help="write the results there")
    made.add_argument("--quick", action="store_true", help="fewer cases and rounds: about a minute")
    made.add_argument("--threads", type=int, help="of torch (default: torch's own choice)")
    return made


def start(given: argparse.Namespace) -> None:
    """Threads, seed and the first line on the screen."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would print its own starts and stops
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(machine(), flush=True)


def show(row: Row) -> Row:
    """Print a row as soon as it is known."""
    interval = f" [{row['low']:.3f}, {row['high']:.3f}]" if "low" in row else ""
    amount = f"{row['ms']:.4g} ms, n {row['n']}" if "ms" in row else f"{row['mb']['all']:.4g} MB"
    target = "" if row["target"] is None else f"target <= {row['target']:<5} {verdict(row):<6}"
    print(
        f"{row['name']:<78} / {row['rival']:<20} {row['ratio']:6.3f}{interval}  {target}  {row['unit']}, {amount}",
        flush=True,
    )
    return row


def verdict(row: Row) -> str:
    """Whether the target is met, in a word; one or two rounds of a time do not tell."""
    return "n < 3" if row["n"] < 3 and "ms" in row else "met" if row["met"] else "MISSED"


def sourced(rows: list[Row], given: argparse.Namespace, where: str) -> list[Row]:
    """The rows with the machine and the command that gave them."""
    return [{**row, "machine": where, "command": command(given)} for row in rows]


def write(rows: list[Row], given: argparse.Namespace) -> None:
    """Write the JSON file, if one was asked for."""
    if not given.json:
        return
    rows = sourced(rows, given, machine())
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def command(given: argparse.Namespace) -> str:
    """The command line that measures the same again: all options that have a value, but for the file."""
    words = ["python", f"benchmarks/{given.script}"]
    for name, value in vars(given).items():
        if name in ("script", "json", "into") or value is None or value is False:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [f"--{name}", *map(str, values)]
    return shlex.join(words)
