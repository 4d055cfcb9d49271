"""What a request may hold, and every row that is refused: with its number, its column and a sentence."""

import time
import tracemalloc

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorweb.kontext.limits import SEED
from lorweb.serving.images import BadRequest
from lorweb.serving.rows import MAX_REQUEST_PIXELS, Options, read_rows
from tests.serving.requests_cases import BAD, flat, png, record


def frame(*records: dict) -> pd.DataFrame:
    return pd.DataFrame(list(records) or [record()])


@pytest.mark.parametrize(("change", "message"), BAD, ids=[sentence[:60] for _, sentence in BAD])
def test_bad_requests_are_refused_with_the_row_and_the_reason(service, change, message):
    with pytest.raises(BadRequest, match=message) as refused:
        service.predict(frame(record(**change)))
    assert len(str(refused.value)) < 300, "a sentence, not an echo of the data"


def test_the_row_of_a_batch_is_named(service):
    with pytest.raises(BadRequest, match="row 2, column steps"):
        service.predict(frame(record(), record(), record(steps=-3)))


def test_columns_and_counts_are_checked(service):
    with pytest.raises(BadRequest, match=r"the column 'b' is missing; every row needs a, a2, b"):
        service.predict(frame().drop(columns="b"))
    with pytest.raises(BadRequest, match=r"unknown column 'sead'; did you mean 'seed'\?"):
        service.predict(frame(record(sead=1)))
    doubled = pd.concat([frame(), frame()[["b"]]], axis=1)
    with pytest.raises(BadRequest, match=r"the column 'b' is there 2 times"):
        service.predict(doubled)
    with pytest.raises(BadRequest, match="0 rows were sent; send 1 to 64"):
        service.predict(frame().iloc[:0])
    with pytest.raises(BadRequest, match="65 rows were sent"):
        service.predict(pd.concat([frame()] * 65))
    with pytest.raises(BadRequest, match="the request is a list; send rows with the columns a, a2, b"):
        service.predict([record()])


def test_many_bombs_below_the_limit_of_one_image_are_refused_before_any_is_decoded():
    """64 rows of three pictures of 4096 x 4096: kilobytes that would unpack to 3.2 billion pixels."""
    bomb = flat(4096, 4096)
    rows = frame(*[record(a=bomb, a2=bomb, b=bomb)] * 64)
    tracemalloc.start()
    begun = time.perf_counter()
    with pytest.raises(BadRequest, match=rf"more than the limit of {MAX_REQUEST_PIXELS} px of a request; send fewer"):
        read_rows(rows)
    assert time.perf_counter() - begun < 5
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_options_that_some_rows_leave_out_are_their_defaults():
    """As pandas gives them: None, NaN, and whole numbers turned into floats by the rows without one."""
    rows = read_rows(frame(record(seed=5, steps=3), record(prompt="p"), record(seed=None, strength=float("nan"))))
    assert [row.options for row in rows] == [Options(seed=5, steps=3), Options(prompt="p"), Options()]


@pytest.mark.parametrize("seed", [2**53 + 1, SEED[1]])
def test_a_seed_that_pandas_has_rounded_is_refused(seed):
    rows = frame(record(seed=seed), record(seed=None))
    assert rows["seed"].dtype == float and int(rows["seed"][0]) != seed
    with pytest.raises(
        BadRequest, match=r"row 0, column seed came as \d+, rounded, .*; give it in every row, or less than"
    ):
        read_rows(rows)
    assert [row.options.seed for row in read_rows(frame(record(seed=2**53 - 1), record(seed=None)))] == [2**53 - 1, 0]


def test_a_prompt_that_is_no_text_is_refused():
    """pandas refuses such a column itself, unless it is told to take objects as they are."""
    rows = pd.DataFrame([record(prompt="half of a pair: \ud800")], dtype=object)
    with pytest.raises(BadRequest, match="row 0, column prompt holds half of a surrogate pair at 16"):
        read_rows(rows)


def test_images_are_taken_as_bytes_too():
    (row,) = read_rows(frame({"a": png(1), "a2": png(2), "b": png(3)}))
    assert row.images["b"] == png(3) and row.decoded()["b"].size == (40, 40)


@settings(deadline=None, max_examples=60)
@given(st.integers(*SEED))
def test_a_seed_keeps_its_value_to_the_last_digit(seed):
    (row,) = read_rows(frame({"a": png(1), "a2": png(2), "b": png(3), "seed": seed}))
    assert row.options.seed == seed


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.binary(max_size=9),
    st.lists(st.integers()),
)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["a", "prompt", "seed", "strength", "steps", "guidance", "other"]), ANYTHING)
def test_no_value_of_any_type_is_worse_than_refused(column, value):
    try:
        (row,) = read_rows(frame({"a": png(1), "a2": png(2), "b": png(3), column: value}))
    except BadRequest as refused:
        assert str(refused)
    else:
        assert column != "other" and -10 <= row.options.strength <= 10 and row.options.steps in {None, *range(1, 201)}
