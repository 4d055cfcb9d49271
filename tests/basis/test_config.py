"""BasisConfig refuses what cannot work, and says what would."""

from typing import Any

import pytest

from lorweb.basis import BLOCK_LINEARS, BasisConfig
from tests.basis.cases import INTERNAL, PAPER_LIKE, config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "key_dim 8 is not divisible by heads 3"),
        ({"projection": "none"}, "query_dim is 12 and key_dim 8; make them equal"),
        ({"query_mode": "cat-aab"}, "did you mean 'cat-aa'b'"),
        ({"pooling": "avg"}, "pooling 'avg' has no effect on external queries"),
        ({"query_dim": None}, "query_dim is missing"),
        ({**INTERNAL, "pooling": None}, "give pooling 'avg' or 'max'"),
        ({**INTERNAL, "query_dim": 12}, "query_dim is 12, but an internal query has its layer's own width"),
        ({**INTERNAL, "projection": "shared"}, "a shared projection needs queries of one width"),
        ({**INTERNAL, "query_mode": "cat-aa'b"}, "unknown internal query_mode 'cat-aa'b'; did you mean 'caa'b'"),
        ({"rank": 0}, "rank"),
        ({"activation": "relu"}, "activation"),
        ({"targets": ()}, "targets"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_no_number_has_a_default() -> None:
    optional = [name for name, field in BasisConfig.model_fields.items() if not field.is_required()]
    assert optional == ["query_source", "pooling", "targets"] and config().targets == BLOCK_LINEARS
    for name in PAPER_LIKE:
        with pytest.raises(ValueError, match=name):
            BasisConfig(**{key: value for key, value in PAPER_LIKE.items() if key != name})


def test_it_survives_json() -> None:
    for made in (config(), config(**INTERNAL)):
        assert BasisConfig.model_validate_json(made.model_dump_json()) == made
