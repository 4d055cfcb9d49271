"""The nearest training tasks and the examples of the demo, from small data in the layout of the stages."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lorweb.basis import BasisConfig, add_basis
from lorweb.data.decode import encode_png
from lorweb.data.manifest import read_manifest, write_manifest
from lorweb.data.shards import write_rows
from lorweb.evaluation.neighbours import training_analogies
from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.grid import Size
from lorweb.kontext.load import load_base
from lorweb.kontext.pipeline import AnalogyPipeline
from lorweb.records import ANALOGY, PAIR
from lorweb.serving.demo_examples import PACKAGED, find_examples, packaged_examples
from lorweb.serving.demo_host import tasks_or_why
from lorweb.serving.demo_tasks import trained_tasks
from lorweb.training.dataset import Encoded, load_train_pairs
from tests.kontext.made import same
from tests.kontext_tiny import drawn_image, save_tiny_kontext
from tests.training.made import FEATURES, write_data


class Named(SimpleNamespace):
    """An encoder by name: the features are there already, so it must never be asked."""


CONFIG = BasisConfig(
    n_loras=3, rank=2, key_dim=4, query_dim=3 * FEATURES, heads=1, activation="softmax", reduce="mean",
    projection="linear", query_mode="cat-aa'b",
)  # fmt: skip


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    base = load_base(str(save_tiny_kontext(tmp_path_factory.mktemp("base") / "kontext")), torch.float32, "cpu")
    add_basis(base.transformer, CONFIG, seed=0)
    return AnalogyPipeline(base, Named(name="e", dim=FEATURES, revision="r1"), CONFIG, CanvasRule(Size(32, 32)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folders = write_data(tmp_path_factory.mktemp("run"))
    manifest = read_manifest(folders.encoded)
    stamp(folders.encoded, "r1")
    assert manifest["params"]["query_mode"] == "cat-aa'b"
    return folders.encoded.parent


def stamp(encoded, revision):
    from lorweb.data.manifest import Manifest

    found = read_manifest(encoded)
    params = {**found["params"], "encoder_revision": revision}
    write_manifest(encoded, Manifest(found["rows"], {}, params, {}))


def routed(pipe, query_Q):
    """Eq. 3 and 4 by hand, in numpy."""
    router = next(m for m in pipe.base.transformer.modules() if type(m).__name__ == "Router")
    keys_LND, projection_LDQ = (t.detach().double().numpy() for t in (router.keys, router.projection))
    logits_LN = np.einsum("lnd,ldq,q->ln", keys_LND, projection_LDQ, query_Q) / CONFIG.key_dim**0.5
    powers_LN = np.exp(logits_LN - logits_LN.max(-1, keepdims=True))
    return powers_LN / powers_LN.sum(-1, keepdims=True)


def test_the_mean_mix_of_a_task_is_that_of_its_training_analogies(pipe, data):
    found = trained_tasks(pipe, data)
    encoded = Encoded.load(data / "encoded")
    assert found.mixes.tasks == ("task0", "task1", "task2", "task3"), "held-out tasks are no training tasks"
    assert found.instructions == {f"task{n}": f"do {n}" for n in range(4)}
    expected = []
    for exemplar, query in training_analogies(load_train_pairs(data / "analogies"), 0)["task1"]:
        (a, a2), (b, _) = encoded.features(exemplar), encoded.features(query)
        expected.append(routed(pipe, torch.cat([a, a2, b]).double().numpy()))
    assert len(expected) == 4, "each subject that is trained, beside another"
    np.testing.assert_allclose(found.mixes.mixes_TLN[1], np.mean(expected, axis=0), atol=1e-5)


def test_an_analogy_of_a_task_is_nearest_to_that_task(pipe, data):
    """The keys grow: with those of the initialisation every query has nearly the same mix."""
    sharp = deepcopy(pipe)
    router = next(m for m in sharp.base.transformer.modules() if type(m).__name__ == "Router")
    with torch.no_grad():
        router.keys.mul_(30)
    tasks = trained_tasks(sharp, data)
    for index, task in enumerate(tasks.mixes.tasks):
        near = tasks.nearest(torch.from_numpy(tasks.mixes.mixes_TLN[index]), 2)
        assert near[0].task == task and near[0].cosine == pytest.approx(1.0) and near[1].cosine < 1.0


def test_the_demo_names_the_neighbours_of_the_report(pipe, data):
    """Of one mix both say the same tasks and the same cosines, though neither asks the other."""
    tasks = trained_tasks(pipe, data)
    mix_LN = torch.rand(tasks.mixes.mixes_TLN.shape[1:], generator=torch.Generator().manual_seed(0))
    middle_LN = tasks.mixes.mixes_TLN.mean(0)
    one = (mix_LN.double().numpy() - middle_LN).ravel()
    cosines = {
        task: float(one @ (mean_LN - middle_LN).ravel() / np.linalg.norm(one) / np.linalg.norm(mean_LN - middle_LN))
        for task, mean_LN in zip(tasks.mixes.tasks, tasks.mixes.mixes_TLN, strict=True)
    }
    found = tasks.nearest(mix_LN, 4)
    assert [near.task for near in found] == sorted(cosines, key=cosines.__getitem__, reverse=True)
    assert {near.task: near.cosine for near in found} == pytest.approx(cosines)
    assert [near.instruction for near in found] == [tasks.instructions[near.task] for near in found]


def test_without_data_or_with_those_of_another_model_the_panel_says_why(pipe, data, tmp_path):
    assert "run `lorweb demo` where the pipeline has run" in tasks_or_why(pipe, tmp_path)
    other = deepcopy(pipe)
    other.encoder = Named(name="e", dim=FEATURES, revision="r2")
    assert "is of encoder and query ('r1'" in tasks_or_why(other, data)


def test_packaged_examples_are_real_photos_with_a_real_edit():
    examples = packaged_examples(64)
    assert len(examples) == len(PACKAGED)
    for example in examples:
        assert example.a.size == example.a2.size == example.b.size == (64, 64)
        assert not same(example.a, example.a2, by=20) and not same(example.a, example.b, by=20)
        assert example.tile(32).size == (32, 32) and example.tile(32).getpixel((24, 24))[3] == 0
    (sepia, *_) = examples
    red, _, blue = np.asarray(sepia.a2, dtype=float).mean((0, 1))
    assert red > blue + 10, "sepia is brown"


def test_examples_are_test_analogies_with_kinds_of_edits_in_turn(tmp_path):
    pairs, analogies = [], []
    for i, (task, kind, split) in enumerate(
        [("x/1", "x", "test"), ("x/2", "x", "test"), ("y/1", "y", "test"), ("y/2", "y", "val")]
    ):
        for side in ("e", "q"):
            before, after = (encode_png(drawn_image(10 * i + k + (5 if side == "q" else 0), 24, 24)) for k in (0, 1))
            pairs.append(
                {**dict.fromkeys(PAIR.names, ""), "id": f"{side}{i}", "task": task, "edit_type": kind, "seed": 0,
                 "instruction": f"do {task}", "before": before, "after": after, "scores": "{}"}
            )  # fmt: skip
        analogies.append(
            {"id": f"a{i}", "task": task, "edit_type": kind, "exemplar": f"e{i}", "query": f"q{i}",
             "instruction": f"do {task}", "split": split, "holdout": "none" if i else "edit", "subject_seen": False}
        )  # fmt: skip
    write_rows(pairs, tmp_path / "pairs", PAIR)
    write_rows(analogies, tmp_path / "analogies", ANALOGY)
    found = find_examples(tmp_path, 3)
    assert [example.name for example in found] == ["do x/2", "do y/1", "do x/1"]
    assert [example.name for example in find_examples(tmp_path, 1)] == ["do x/2"]
    assert same(found[2].a, drawn_image(0, 24, 24)) and same(found[2].b, drawn_image(5, 24, 24))
    assert find_examples(tmp_path / "none", 3) == []
