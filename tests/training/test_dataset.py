import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lorweb.records import ENCODED_PAIR
from lorweb.training.dataset import Encoded, Triple, load_train_pairs
from lorweb.training.stored import grid_key
from tests.training.made import CHANNELS, FEATURES, SIDE, TEXT_TOKENS, TEXT_WIDTH, write_data


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def encoded(folders):
    return Encoded.load(folders.encoded)


def test_a_batch_is_the_grids_of_its_rows_in_order(encoded):
    rows = [Triple("p0-0", "p0-1", ""), Triple("p3-2", "p3-4", "do 3")]
    batch = encoded.grid_batch(rows)
    assert batch.ids == ["p0-0>p0-1", "p3-2>p3-4"]
    assert batch.x0_BCHW.shape == batch.y_BCHW.shape == (2, CHANNELS, 2 * SIDE, 2 * SIDE)
    for index, row in enumerate(rows):
        (a, a2), (b, b2) = encoded.latents(row.exemplar), encoded.latents(row.query)
        target = torch.cat([torch.cat([a, a2], -1), torch.cat([b, b2], -1)], -2)
        control = torch.cat([torch.cat([a, a2], -1), torch.cat([b, b], -1)], -2)
        assert torch.equal(batch.x0_BCHW[index], target) and torch.equal(batch.y_BCHW[index], control)
        (f_a, f_a2), (f_b, _) = encoded.features(row.exemplar), encoded.features(row.query)
        assert torch.equal(batch.query_BQ[index], torch.cat([f_a, f_a2, f_b]))
        assert torch.equal(batch.text.prompt_BTE[index], encoded.text(row.instruction).prompt_BTE[0])


def test_the_true_answer_is_in_the_target_alone(encoded):
    """b' may reach neither the control grid nor the query."""
    first = encoded.grid_batch([Triple("p0-0", "p0-1", "")])
    encoded_b2 = encoded.pairs["p0-1"][1]
    kept = encoded.latents_MChw[encoded_b2].clone(), encoded.features_MD[encoded_b2].clone()
    try:
        encoded.latents_MChw[encoded_b2] += 1
        encoded.features_MD[encoded_b2] += 1
        second = encoded.grid_batch([Triple("p0-0", "p0-1", "")])
    finally:
        encoded.latents_MChw[encoded_b2], encoded.features_MD[encoded_b2] = kept
    assert torch.equal(first.y_BCHW, second.y_BCHW) and torch.equal(first.query_BQ, second.query_BQ)
    assert not torch.equal(first.x0_BCHW, second.x0_BCHW)


def test_memory_holds_half_precision_and_batches_are_full(encoded):
    assert encoded.latents_MChw.dtype == encoded.features_MD.dtype == torch.float16
    batch = encoded.grid_batch([Triple("p0-0", "p0-1", "")])
    assert {t.dtype for t in (batch.x0_BCHW, batch.y_BCHW, batch.query_BQ, batch.text.prompt_BTE)} == {torch.float32}
    assert batch.text.prompt_BTE.shape == (1, TEXT_TOKENS, TEXT_WIDTH)


def test_the_width_of_the_query_follows_from_the_mode(encoded):
    assert encoded.query_dim == 3 * FEATURES


def test_every_training_pair_is_there(encoded, folders):
    pairs = load_train_pairs(folders.analogies)
    assert len(pairs) == 4 * 4 and {pair.pair for pair in pairs} <= set(encoded.pairs)


def remode(folder, mode):
    path = folder / "_manifest.json"
    facts = json.loads(path.read_text())
    facts["params"]["query_mode"] = mode
    path.write_text(json.dumps(facts))


def test_a_grid_that_was_not_encoded_is_named(tmp_path):
    folders = write_data(tmp_path)
    remode(folders.encoded, "caa'b")
    encoded = Encoded.load(folders.encoded)
    assert encoded.query_dim == FEATURES
    rows = torch.tensor([[0, 1, 2]])
    with pytest.raises(ValueError, match=r"looks at grids, and the grid of images .* was not encoded; run the encode"):
        encoded.queries(rows)
    encoded.grids[grid_key(*encoded.images[:3])] = torch.arange(FEATURES).half()
    assert torch.equal(encoded.queries(rows), torch.arange(FEATURES).float()[None])


def test_a_pair_without_its_image_is_named(tmp_path):
    folders = write_data(tmp_path)
    row = {"pair": "lost", "before": "s0", "after": "nowhere"}
    pq.write_table(pa.Table.from_pylist([row], ENCODED_PAIR), folders.encoded / "pairs.parquet")
    with pytest.raises(ValueError, match="pair lost"):
        Encoded.load(folders.encoded)


def test_a_missing_stage_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the stage"):
        Encoded.load(tmp_path)
