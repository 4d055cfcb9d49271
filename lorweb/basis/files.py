"""Reading and writing safetensors: atomic, deterministic, and with errors that name file and key."""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write beside the target and rename: a reader sees the old file or the new one, never a part.

    Equal tensors and metadata, in equal order, are equal bytes.

    Raises:
        OSError: the folder cannot be written, or the disk is full; no partial file is left.
    """
    with _replacing(path) as partial:
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, partial, metadata)
        if len(metadata) > 1:
            _order_metadata(partial, list(metadata))


def _order_metadata(path: Path, keys: list[str]) -> None:
    """safetensors writes several metadata keys in an order that changes with every process: put them in the given."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = {key: header["__metadata__"][key] for key in keys}
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        assert len(text) <= length, f"the ordered header has {len(text)} bytes instead of {length}"
        file.seek(8)
        file.write(text.ljust(length))  # safetensors pads with spaces, too


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by the same rename. Raises OSError as `write_safetensors` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes by the same rename. Raises OSError as `write_safetensors` does."""
    with _replacing(path) as partial:
        partial.write_bytes(content)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, for the block to make, that takes its place or goes away as the block ends.

    Its name is known before it is there: a Ctrl-C at any moment leaves none behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield partial
        partial.chmod(0o644)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or no safetensors file.
    """
    with _opened(path) as file:
        # clones own their memory: the file may be replaced while the model is in use
        return {key: file.get_tensor(key).clone() for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, in its order; its tensors, gigabytes at full size, are not read.

    Raises as `read_safetensors` does.
    """
    with _opened(path):  # which checks it
        pass
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return dict(header.get("__metadata__") or {})


def read_dtypes(path: Path) -> dict[str, str]:
    """{key: dtype} of a file, as safetensors names dtypes (F16, BF16, F32, ...). Raises as `read_safetensors` does."""
    with _opened(path) as file:
        return {key: str(file.get_slice(key).get_dtype()) for key in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error}); fetch or write it again") from error


def check_tensors(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file whose keys, shapes, dtypes or values cannot be this basis.

    Raises:
        ValueError: a missing or unknown key, two shapes that differ, a dtype that is no 16- or 32-bit float, or values
            that are not finite; the first offender of each kind is named.
    """
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or unknown:
        parts = [f"{len(missing)} keys are missing (first: '{missing[0]}')"] if missing else []
        parts += [f"{len(unknown)} keys are unknown (first: '{unknown[0]}')"] if unknown else []
        raise ValueError(f"{path} does not fit: {' and '.join(parts)}; was it made for another base or other targets?")
    for key, shape in expected.items():
        if tuple(found[key].shape) != shape:
            raise ValueError(f"{path}: '{key}' has shape {tuple(found[key].shape)}, this model needs {shape}")
        if found[key].dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"{path}: '{key}' is {found[key].dtype}; a basis is float32, float16 or bfloat16")
        if not bool(found[key].isfinite().all()):
            raise ValueError(f"{path}: '{key}' holds values that are not finite; its training had diverged")
