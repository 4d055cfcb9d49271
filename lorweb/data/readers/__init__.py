"""Readers of source images. Each lists its locations cheaply and reads one location into a `Source` row."""

from typing import Annotated

from pydantic import Field

from lorweb.data.readers.base import Location, Reader, SourceRow
from lorweb.data.readers.dicebear import DicebearConfig, DicebearReader
from lorweb.data.readers.fluent import FluentConfig, FluentReader
from lorweb.data.readers.folder import FolderConfig, FolderReader
from lorweb.data.readers.photos import PhotosConfig, PhotosReader
from lorweb.data.readers.tuxpaint import TuxpaintConfig, TuxpaintReader

ReaderConfig = Annotated[
    PhotosConfig | DicebearConfig | FolderConfig | FluentConfig | TuxpaintConfig, Field(discriminator="reader")
]


def build_reader(cfg: ReaderConfig) -> Reader:
    """The reader that a parameter entry describes. Raises ValueError if what it reads is not there."""
    match cfg:
        case PhotosConfig():
            return PhotosReader(cfg)
        case DicebearConfig():
            return DicebearReader(cfg)
        case FolderConfig():
            return FolderReader(cfg)
        case FluentConfig():
            return FluentReader(cfg)
        case TuxpaintConfig():
            return TuxpaintReader(cfg)


__all__ = ["Location", "Reader", "ReaderConfig", "SourceRow", "build_reader"]
