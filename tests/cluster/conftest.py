"""One head per module that asks for it."""

from collections.abc import Iterator

import pytest

from tests.cluster.head import TOKEN, running_head


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the job server of a real head that asks for a token, which this process has."""
    from ray._private.authentication_test_utils import reset_auth_token_state

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        reset_auth_token_state()  # Ray reads them once in a process, and a test before this may have used it
        with running_head(tmp_path_factory.mktemp("node"), {}) as address:
            yield address
    reset_auth_token_state()
