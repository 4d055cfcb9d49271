"""Readers of source images. Each lists its locations cheaply and reads one location into a `Source` row."""

from typing import Annotated, Union

from pydantic import Field

from lorweb.data.readers.base import Location, Reader, SourceRow
from lorweb.data.readers.dicebear import DicebearConfig, DicebearReader
from lorweb.data.readers.folder import FolderConfig, FolderReader
from lorweb.data.readers.photos import PhotosConfig, PhotosReader

ReaderConfig = Annotated[Union[PhotosConfig, DicebearConfig, FolderConfig], Field(discriminator="reader")]


def build_reader(cfg: ReaderConfig) -> Reader:
    """The reader that a parameter entry describes. Raises ValueError if what it reads is not there."""
    match cfg:
        case PhotosConfig():
            return PhotosReader(cfg)
        case DicebearConfig():
            return DicebearReader(cfg)
        case FolderConfig():
            return FolderReader(cfg)


__all__ = ["Location", "Reader", "ReaderConfig", "SourceRow", "build_reader"]
