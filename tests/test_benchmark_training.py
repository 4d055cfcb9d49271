"""The benchmark of the training step: what it compares is equal, what it counts is there. No time is looked at."""

import json
import math
import re
import weakref

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lorweb.basis import count_parameters, target_sizes
from lorweb.training.step import take_step
from tests.benchmark_cases import FOLDER, module, put_on_the_path

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
GUIDE = FOLDER.parent / "docs" / "training_cost.md"
KEYS = {"name", "rival", "ratio", "target", "met", "unit", "n", "machine", "command"}


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_the_path(monkeypatch)
    monkeypatch.setattr(module("train_step"), "quiet", lambda: None)  # it is for good, and other tests want to hear


@pytest.fixture
def scene():
    training = module("_training")
    return training.wide(training.Shape(heads=1, double=1, single=1, cells=4, batch=2, query=48), CPU, "float32")


def faster(scene):
    """A learning rate at which three steps are seen."""
    return {"optimizer": {**scene.train.optimizer.model_dump(), "learning_rate": 1e-2, "warmup_steps": 0}}


@pytest.mark.slow
def test_rows_are_complete_and_the_tables_say_them(tmp_path):
    script, path, page = module("train_step"), tmp_path / "made" / "rows.json", tmp_path / "page.md"
    page.write_text("\n".join(script.MARKS))
    asked = re.findall(r"^python benchmarks/train_step.py (--quick .*)$", GUIDE.read_text(encoding="utf-8"), re.M)[0]
    script.main([*asked.split(), "--json", str(path), "--into", str(page)])
    rows = json.loads(path.read_text())
    timed, counted = ([row for row in rows if key in row] for key in ("ms", "mb"))
    assert len(timed) == len(counted) == 5 and len(timed) + len(counted) == len(rows)
    assert len({(row["name"], row["unit"]) for row in rows}) == len(rows)
    for row in rows:
        assert set(row) >= KEYS and row["unit"].endswith(f" / {row['rival']}") and row["ratio"] > 0
        assert row["met"] == (None if row["target"] is None else row["ratio"] <= row["target"])
        assert row["command"].endswith("--device cpu --precision float32 --only rivals")
    for row in counted:
        for side in (row["mb"], row["rival_mb"]):
            assert side["all"] == pytest.approx(sum(size for part, size in side.items() if part != "all"), abs=0.01)
            assert min(side.values()) > 0
        assert row["ratio"] == pytest.approx(row["mb"]["all"] / row["rival_mb"]["all"], abs=1e-3)
    targets = {(row["unit"], row["target"]) for row in rows}
    assert {("time, ours / peft", 1.1), ("peak bytes, ours / peft", 1.2)} <= targets
    assert {("time, ours / einsum in order", 1.0), ("time, ours / einsum best path", 1.0)} <= targets
    assert script.markdown(rows) in page.read_text()


def test_all_contestants_start_from_one_loss_and_the_einsum_learns_as_ours(scene):
    training = module("_training")
    kinds = ("ours", "peft", "einsum in order", "einsum best path")
    runs = {kind: training.make_run(scene, kind, **faster(scene)) for kind in kinds}
    losses = {kind: [take_step(run, step).loss for step in range(4)] for kind, run in runs.items()}
    sizes = target_sizes(scene.transformer, scene.config.targets).values()
    assert runs["ours"].variant.size == runs["einsum in order"].variant.size == count_parameters(scene.config, sizes)
    assert runs["peft"].variant.size == sum(128 * (i + o) for i, o in sizes)
    for kind in kinds[1:]:
        assert losses[kind][0] == pytest.approx(losses["ours"][0], rel=1e-6)
    for kind in kinds[2:]:
        assert losses[kind] == pytest.approx(losses["ours"], rel=1e-4)
    assert abs(losses["peft"][3] / losses["ours"][3] - 1) > 1e-3, "the steps are too small to see"


def test_frozen_weights_are_shared_and_stay(scene):
    training = module("_training")
    before = {name: value.clone() for name, value in scene.transformer.state_dict().items()}
    runs = [training.make_run(scene, kind, **faster(scene)) for kind in ("ours", "peft")]
    assert all(take_step(run, 0).loss > 0 for run in runs)
    storages = [{p.data_ptr() for p in run.variant.transformer.parameters() if not p.requires_grad} for run in runs]
    assert storages[0] == storages[1] == {p.data_ptr() for p in scene.transformer.parameters()}
    assert all(torch.equal(value, before[name]) for name, value in scene.transformer.state_dict().items())


def test_pictures_encoded_in_the_step_are_those_encoded_before():
    uncached, training = module("_uncached"), module("_training")
    scene, pictures = uncached.tiny(CPU, 2, batch_size=2, caption_dropout=0.5)
    drawn = [training.make_run(scene, "ours").sampler.slot(0, slot) for slot in range(6)]
    asked = [uncached.Triple(d.exemplar, d.query, d.instruction) for d in drawn]
    stored, live = scene.encoded.grid_batch(asked), pictures.grid_batch(asked)
    assert {d.instruction == "" for d in drawn} == {True, False} and stored.ids == live.ids
    for name in ("x0_BCHW", "y_BCHW", "query_BQ"):
        assert_close(getattr(live, name), getattr(stored, name), atol=1e-4, rtol=1e-4)
    assert_close(live.text.prompt_BTE, stored.text.prompt_BTE, atol=1e-4, rtol=1e-4)
    losses = [take_step(training.make_run(scene, "ours", data), 0).loss for data in (scene.encoded, pictures)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_peak_by_hand():
    memory, n = module("_memory"), 100_000
    x = torch.rand(n, requires_grad=True)

    def plain() -> None:
        a = torch.empty(n)
        b = a + 1
        del a
        _ = torch.empty(3 * n), b

    def graph() -> None:
        x.grad = None
        x.exp().exp().exp().sum().backward()

    assert memory.peak_of(plain, CPU) == 4 * 4 * n  # b and the last, or a and b
    # three results are kept for backward, and one gradient is made; each result goes as soon as its own is done
    assert 4 * 4 * n <= memory.peak_of(graph, CPU) < 4 * 4 * n + 100


class Storages(TorchDispatchMode):
    """Another count: live storages of what operators return. It misses what is only alive inside of an operator."""

    def __init__(self):
        super().__init__()
        self.sizes, self.live, self.peak = {}, 0, 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        known = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        made = operator(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in known and id(storage) not in self.sizes:
                    self.sizes[id(storage)] = storage.nbytes()
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self.gone, id(storage))
        self.peak = max(self.peak, self.live)
        return made

    def gone(self, key):
        self.live -= self.sizes.pop(key)


@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}], ids=["plain", "checkpointing"])
def test_the_peak_of_a_step_agrees_with_another_count(scene, changes):
    memory, training = module("_memory"), module("_training")
    run = training.make_run(scene, "peft", batch_size=8, **changes)
    step = training.stepping(run)
    step()
    run.optimizer.zero_grad(set_to_none=True)
    counted = memory.peak_of(step, CPU)
    run.optimizer.zero_grad(set_to_none=True)
    with Storages() as other:
        step()
    assert other.peak > 4 * run.variant.size, "at its end all gradients are there"
    assert other.peak <= counted <= 1.1 * other.peak


def test_what_a_run_holds_by_formula(scene):
    memory, training = module("_memory"), module("_training")
    run = training.make_run(scene, "ours", ema=0.9)
    base = 4 * sum(math.prod(p.shape) for p in scene.transformer.parameters())
    buffers = sum(b.untyped_storage().nbytes() for b in scene.transformer.buffers())
    trained = 4 * count_parameters(scene.config, target_sizes(scene.transformer, scene.config.targets).values())
    assert memory.held(run) == memory.Held(base + buffers, trained, trained)
    take_step(run, 0)
    counters = 4 * len(run.variant.parameters)
    assert memory.held(run) == memory.Held(base + buffers, trained, 3 * trained + counters)
