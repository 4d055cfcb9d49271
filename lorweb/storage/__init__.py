"""Data and models where nodes share nothing but a store: any file system that fsspec speaks."""

from lorweb.storage.blobs import Inventory, fetch_blob, restore, shelve, take_stock
from lorweb.storage.places import bind, children, local
from lorweb.storage.store import StorageError, Store, is_uri

__all__ = [
    "Inventory",
    "StorageError",
    "Store",
    "bind",
    "children",
    "fetch_blob",
    "is_uri",
    "local",
    "restore",
    "shelve",
    "take_stock",
]
