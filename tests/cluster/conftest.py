"""One head per test that asks for it."""

from collections.abc import Iterator

import pytest

from tests.cluster.head import running_head


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of the job server of a real head, stopped afterwards."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with running_head() as address:
        yield address
