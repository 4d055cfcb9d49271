"""Readers of source images. Each lists its locations cheaply and reads one location into a `Source` row.

Readers of pairs bring the image after the edit beside it (`GivenPair`).
"""

from typing import Annotated, Any

from pydantic import Field

from lorweb.data.readers.base import (
    Edit,
    Facts,
    GivenPair,
    GivenRow,
    Location,
    Reader,
    SourceRow,
    given_pair,
    source_row,
)
from lorweb.data.readers.dicebear import DicebearConfig, DicebearReader
from lorweb.data.readers.evalset import EvalsetConfig, EvalsetReader
from lorweb.data.readers.fluent import FluentConfig, FluentReader
from lorweb.data.readers.folder import FolderConfig, FolderReader
from lorweb.data.readers.pairs import PairsConfig, PairsReader
from lorweb.data.readers.parquet import ParquetConfig, ParquetReader
from lorweb.data.readers.photos import PhotosConfig, PhotosReader
from lorweb.data.readers.python import PythonReader, PythonReaderConfig
from lorweb.data.readers.relation252k import Relation252kConfig, Relation252kReader
from lorweb.data.readers.tuxpaint import TuxpaintConfig, TuxpaintReader
from lorweb.data.readers.webdataset import WebdatasetConfig, WebdatasetReader

ReaderConfig = Annotated[
    PhotosConfig
    | DicebearConfig
    | FluentConfig
    | TuxpaintConfig
    | FolderConfig
    | ParquetConfig
    | WebdatasetConfig
    | PairsConfig
    | Relation252kConfig
    | EvalsetConfig
    | PythonReaderConfig,
    Field(discriminator="reader"),
]

_READERS: dict[type, Any] = {
    PhotosConfig: PhotosReader,
    DicebearConfig: DicebearReader,
    FluentConfig: FluentReader,
    TuxpaintConfig: TuxpaintReader,
    FolderConfig: FolderReader,
    ParquetConfig: ParquetReader,
    WebdatasetConfig: WebdatasetReader,
    PairsConfig: PairsReader,
    Relation252kConfig: Relation252kReader,
    EvalsetConfig: EvalsetReader,
    PythonReaderConfig: PythonReader,
}


def build_reader(cfg: ReaderConfig) -> Reader:
    """The reader that a parameter entry describes. Raises ValueError if what it reads is not there."""
    reader: Reader = _READERS[type(cfg)](cfg)
    return reader


__all__ = [
    "Edit",
    "Facts",
    "GivenPair",
    "GivenRow",
    "Location",
    "Reader",
    "ReaderConfig",
    "SourceRow",
    "build_reader",
    "given_pair",
    "source_row",
]
