"""Stores to test with: a folder, and an S3 server on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lorweb.storage import Store
from tests.storage.servers import s3_server


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Endpoint of an S3 server with a bucket `bucket`; every process of the session may write there."""
    with pytest.MonkeyPatch.context() as patch, s3_server() as endpoint:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield endpoint


@pytest.fixture(params=["folder", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store of each kind, and a node of the test's own."""
    monkeypatch.setenv("LORWEB_NODE_FOLDER", str(tmp_path / "node"))
    if request.param == "folder":
        return Store(str(tmp_path / "store"))
    endpoint = request.getfixturevalue("s3")
    return Store(f"s3://bucket/{tmp_path.name}", {"endpoint_url": endpoint})
