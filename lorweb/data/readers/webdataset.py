"""WebDataset shards: tar files in which members of one name and different suffixes belong together. Never unpacked."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from lorweb.data.decode import decode_rgb, large_enough, square
from lorweb.data.readers.base import Facts, Location, ReaderSection, SourceRow, source_row
from lorweb.data.readers.captions import CAPTION_SUFFIXES, SIDECAR_BYTES, sidecar_caption
from lorweb.data.readers.files import Found, open_plain, printable, shown
from lorweb.data.readers.parquet import shards
from lorweb.data.rejects import Rejected
from lorweb.storage.fetched import fetched

_RECORD: Final = 21 * 512  # bytes; tar fills its end with zeros up to 20 blocks, so one more shows what follows

Members = dict[str, list[int]]  # suffix -> [offset, size] in the shard


class WebdatasetConfig(ReaderSection):
    """`path`: one .tar file, or a folder that is searched for them; `images`: suffixes, the first that a sample has is
    its image; `captions`: none, or sidecar: the sample's .txt or .json.
    """

    ROWS: ClassVar = ("licence",)

    reader: Literal["webdataset"]
    name: str
    path: str
    licence: str
    images: Annotated[tuple[str, ...], Field(min_length=1)]
    captions: Literal["none", "sidecar"]


class WebdatasetReader:
    """Samples of uncompressed tar files, known by shard and key, read again by their offset.

    Raises:
        ValueError: there is no shard.
    """

    def __init__(self, cfg: WebdatasetConfig) -> None:
        self.cfg = cfg
        self.images = [f".{suffix.lower().lstrip('.')}" for suffix in cfg.images]
        self.path = str(fetched(cfg.path))
        if not Path(self.path).exists():
            raise ValueError(f"no '{cfg.path}' to read tar shards from; correct collect.readers.path")

    def locations(self) -> Iterator[Location]:
        """Every sample, from the headers alone. What lies behind a damaged place of a shard is one reject.

        Raises:
            ValueError: there is no shard.
        """
        for file in shards(self.path, ".tar"):
            origin = f"webdataset:{self.cfg.name}/{printable(file.name)}"
            samples: dict[str, Members] = {}
            faults: list[tuple[str, str, str]] = []
            if file.fault is None:
                _list(file, samples, faults)
            else:
                faults.append(("", *file.fault))
            for key, members in samples.items():
                yield self._sample(file, f"{origin}#{printable(key)}", members)
            for name, *fault in faults:
                place = f"{origin}#{printable(name)}" if name else origin
                yield Location(place, file.path, {"file": file.state}, (fault[0], fault[1]))

    def _sample(self, file: Found, origin: str, members: Members) -> Location:
        image = next((suffix for suffix in self.images if suffix in members), None)
        caption = next((suffix for suffix in CAPTION_SUFFIXES if suffix in members), None)
        known: dict[str, Any] = {"file": file.state}
        if image is None:
            why = f"the sample holds {', '.join(sorted(members))}, and none of {', '.join(self.images)}"
            return Location(origin, file.path, known, ("no_image", why))
        known["image"] = members[image]
        if self.cfg.captions == "sidecar" and caption is not None:
            known["caption"] = [caption, *members[caption]]
        return Location(origin, file.path, known)

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow:
        """One sample. Raises `Rejected` (see `decode_rgb`, and `truncated`, `bad_caption`, `too_small`)."""
        offset, length = location.known["image"]
        limit = max_pixels * 8 + SIDECAR_BYTES
        image = large_enough(decode_rgb(_member(location.uri, offset, length, limit), max_pixels), size)
        caption = ""
        if "caption" in location.known:
            suffix, offset, length = location.known["caption"]
            caption = sidecar_caption(
                _member(location.uri, offset, length, SIDECAR_BYTES), suffix, f"the {suffix} member"
            )
        name = location.origin.partition(":")[2]
        return source_row(location, square(image, size), Facts(f"sample:{name}", "photo", caption, self.cfg.licence))


def _list(file: Found, samples: dict[str, Members], faults: list[tuple[str, str, str]]) -> None:
    """Fill in the samples of a shard, and its faults: (member or "", check, reason)."""
    try:
        with tarfile.open(file.path, "r:") as tar:
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset <= member.offset:
                    raise tarfile.ReadError(f"a member at byte {member.offset} claims a negative size")
                tar.members.clear()  # type: ignore[attr-defined] # it keeps every header otherwise
                _add(member, samples, faults)
            end = tar.offset
        with open_plain(file.path) as raw:
            raw.seek(end)
            if raw.read(_RECORD).strip(b"\0"):  # tarfile ends silently here, at a damaged header or a joined archive
                raise tarfile.ReadError(f"a damaged header, or another archive joined to it, follows at byte {end}")
    except (tarfile.TarError, OSError, ValueError, EOFError, MemoryError) as error:
        why = f"{shown(file.name)} cannot be read behind its first {len(samples)} samples: {error}"
        faults.append(("", "bad_shard", why))


def _add(member: tarfile.TarInfo, samples: dict[str, Members], faults: list[tuple[str, str, str]]) -> None:
    if member.isdir():
        return
    folder, slash, name = member.name.rpartition("/")
    stem, dot, suffix = name.partition(".")
    suffix = dot + suffix.lower()
    if not member.isreg() or member.issparse():
        faults.append((member.name, "not_a_file", f"member {shown(member.name)} is a link, a device or sparse"))
        return
    members = samples.setdefault(folder + slash + stem, {})
    if suffix in members:
        reason = f"member {shown(member.name)} comes twice; the first stays"
        faults.append((f"{member.name} at {member.offset}", "duplicate_name", reason))
        return
    members[suffix] = [member.offset_data, member.size]


def _member(path: str, offset: int, length: int, limit: int) -> bytes:
    if length > limit:
        raise Rejected("too_large", f"the member has {length} bytes, too many for an image or a text", length, limit)
    with open_plain(path) as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) < length:
        raise Rejected("truncated", f"the shard ends {length - len(data)} bytes before its member does")
    return data
