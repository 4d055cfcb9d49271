"""Stores for tests: a folder, or S3 on loopback."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from lorweb.storage.store import Store
from tests.versions.servers import BUCKET, s3_server


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """An S3 server for all tests of this process, whose environment has its keys meanwhile."""
    with pytest.MonkeyPatch.context() as patch, s3_server() as address:
        for name, value in {
            "ACCESS_KEY_ID": "test",
            "SECRET_ACCESS_KEY": "test",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(f"AWS_{name}", value)
        yield address


@pytest.fixture(scope="session")
def s3_prefixes() -> Iterator[int]:
    return itertools.count()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path) -> Store:
    """An empty store of either kind."""
    if request.param == "folder":
        return Store(str(tmp_path / "store"))
    address: str = request.getfixturevalue("s3_address")
    prefixes = request.getfixturevalue("s3_prefixes")
    return Store(f"s3://{BUCKET}/{next(prefixes)}", {"endpoint_url": address})


def absent(store: Store) -> Callable[[str], bool]:
    """Whether a store has nothing under a key."""
    return lambda key: store.size(key) is None
