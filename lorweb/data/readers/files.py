"""Files as they are found on real disks: odd names, links, pipes, folders that cannot be opened. Nothing blocks."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from lorweb.data.rejects import Rejected

IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_SHOWN: Final = 120  # characters of a name in a reason
_HEADERS: Final = 1 << 20  # bytes that a file may have beside its pixels
_CHECKS: Final = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.ELOOP: "broken_link",
    errno.ENXIO: "not_a_file",
    errno.EISDIR: "not_a_file",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a folder: `name` is relative to the root, with "/"; `fault` says why it cannot be an image."""

    name: str
    path: str
    state: tuple[int, int] = (0, 0)  # size in bytes, time of change in ns
    fault: tuple[str, str] | None = None

    @property
    def stem(self) -> str:
        return os.path.splitext(self.name)[0]  # noqa: PTH122 - called for every file of large folders

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1].lower()  # noqa: PTH122


def printable(name: str) -> str:
    """A file name as text that can be stored and shown: bytes that are no UTF-8 and control characters as escapes."""
    text = name.encode("utf-8", errors="backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(name: str) -> str:
    """`printable`, and short enough for a sentence."""
    text = printable(name)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


def beside(path: str, suffix: str) -> str:
    """The same path with another suffix; parted from its own as `Found.stem` is."""
    return os.path.splitext(path)[0] + suffix  # noqa: PTH122 - Path sees no suffix in "x."


def scan(root: Path) -> Iterator[list[Found]]:
    """Every folder under `root` as the list of its files, both sorted by name; hidden files and folders are left out.

    Links to folders are not followed, since they may lead in circles; they, and whatever else is no plain file, come
    with a `fault`. Memory is that of one folder.
    """
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(root / inside) as entries:
                listed = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            why = ("unreadable", f"the folder {shown(inside) or 'itself'} cannot be listed: {error.strerror}")
            yield [Found(inside or ".", str(root / inside), fault=why)]
            continue
        files, folders = [], []
        for entry in listed:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
                if entry.name.lower().endswith(IMAGE_SUFFIXES):
                    why = ("not_a_file", f"{shown(name)} is a folder, named like an image; what lies in it is read")
                    files.append(Found(name, entry.path, fault=why))
            else:
                files.append(found(name, entry.path))
        waiting += reversed(folders)
        if files:
            yield files


def found(name: str, path: str) -> Found:
    """One file by its name: its state, or what is wrong with it."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called for every file of large folders
    except ValueError:  # a zero byte or half a character: names from a list need not be possible names
        return Found(name, path, fault=("missing", f"{shown(name)} is no possible file name"))
    except OSError as error:
        return Found(name, path, fault=_fault(name, error, os.path.islink(path)))  # noqa: PTH114 - as above
    if stat.S_ISREG(status.st_mode):
        return Found(name, path, (status.st_size, status.st_mtime_ns))
    if stat.S_ISDIR(status.st_mode) and not os.path.islink(path):  # noqa: PTH114 - as above
        return Found(name, path, fault=("not_a_file", f"{shown(name)} is a folder"))
    if stat.S_ISDIR(status.st_mode):
        why = f"{shown(name)} is a link to a folder, which may lead in circles; give that folder an entry of its own"
        return Found(name, path, fault=("linked_folder", why))
    return Found(name, path, fault=("not_a_file", f"{shown(name)} is a pipe, a socket or a device"))


def listed(root: Path, name: str) -> Found:
    """A file that a list names, relative to `root`. A path that leads out of it is a fault (check `outside`)."""
    plain = os.path.normpath(name)
    if plain.startswith("/") or plain == ".." or plain.startswith("../"):
        why = f"{shown(name)} leads out of {shown(str(root))}; name files below it"
        return Found(name, "", fault=("outside", why))
    return found(plain, f"{root}/{plain}")


def _fault(name: str, error: OSError, link: bool) -> tuple[str, str]:
    check = _CHECKS.get(error.errno or 0, "unreadable")
    if link and check == "missing":
        return "broken_link", f"{shown(name)} is a link to a file that is not there"
    return check, f"{shown(name)} cannot be read: {error.strerror}"


def read_file(path: str, max_pixels: int) -> bytes:
    """The bytes of a plain file that may be an image of `max_pixels`: no pipe blocks, no huge file fills the memory.

    Raises:
        Rejected: checks `missing`, `broken_link`, `not_a_file`, `unreadable`, `too_large`.
    """
    return read_at_most(path, max_pixels * 8 + _HEADERS)  # 8: 16 bit, four channels, not compressed


def read_at_most(path: str, limit: int) -> bytes:
    """The bytes of a plain file of at most `limit` bytes. Raises as `read_file` does."""
    name = Path(path).name
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise Rejected(
                "too_large", f"{shown(name)} has {size} bytes, too many for what it should hold", size, limit
            )
        try:
            return file.read(limit)
        except OSError as error:
            raise Rejected(*_fault(name, error, False)) from error


def open_plain(path: str) -> BinaryIO:
    """A plain file, opened for reading. Raises `Rejected` (checks `missing`, `broken_link`, `not_a_file`,
    `unreadable`).
    """
    try:
        file = open(path, "rb", opener=_at_once)  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise Rejected(*_fault(Path(path).name, error, False)) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Rejected("not_a_file", f"{shown(Path(path).name)} is a pipe, a socket or a device")
    return file


def _at_once(path: str, flags: int) -> int:
    """A pipe that has taken the place of a file since it was listed must not wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
