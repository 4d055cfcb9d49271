import math
import tomllib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lorweb.doctor import _optimizer
from lorweb.training.entries import Optimizer
from lorweb.training.optimizer import build_optimizer, schedule_factor, set_learning_rate, update
from lorweb.training.packages import PACKAGES, require_package
from tests.training.made import train_section

OPTIMIZER = train_section().optimizer


def changed(**keys):
    return Optimizer.model_validate({**OPTIMIZER.model_dump(), **keys})


def test_warm_up_then_constant():
    config = changed(warmup_steps=4, schedule="constant")
    assert [schedule_factor(step, 10, config) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_they_fall_from_one_to_zero(schedule):
    config = changed(warmup_steps=0, schedule=schedule)
    factors = [schedule_factor(step, 10, config) for step in range(12)]
    assert factors[0] == 1.0 and math.isclose(factors[5], 0.5) and factors[10] < 1e-12 and factors[11] < 1e-12
    assert factors == sorted(factors, reverse=True)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 3])
def test_they_are_the_schedules_of_transformers(schedule, warmup):
    """Its warm-up starts at 0 and wastes the first step; ours is the same line one step earlier."""
    from transformers import get_scheduler

    total = 12
    theirs = get_scheduler(
        {"constant": "constant_with_warmup"}.get(schedule, schedule),
        torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0),
        num_warmup_steps=warmup,
        num_training_steps=total,
    ).lr_lambdas[0]
    config = changed(warmup_steps=warmup, schedule=schedule)
    for step in range(total + 1):
        expected = theirs(step + 1) if step < warmup else theirs(step)
        assert schedule_factor(step, total, config) == pytest.approx(expected, abs=1e-12), step


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_they_are_the_schedules_of_torch(schedule):
    from torch.optim import lr_scheduler as torchs

    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    theirs = {
        "constant": lambda: torchs.ConstantLR(optimizer, factor=1.0),
        "cosine": lambda: torchs.CosineAnnealingLR(optimizer, T_max=9),
        "linear": lambda: torchs.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=9),
    }[schedule]()
    config = changed(warmup_steps=0, schedule=schedule)
    for step in range(10):
        assert schedule_factor(step, 9, config) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()


@given(st.integers(0, 300), st.integers(1, 200), st.integers(0, 250), st.sampled_from(["constant", "cosine", "linear"]))
def test_every_factor_lies_between_nothing_and_all(step, total, warmup, schedule):
    assert 0.0 <= schedule_factor(step, total, changed(warmup_steps=warmup, schedule=schedule)) <= 1.0


def test_the_router_has_its_own_learning_rate_and_the_same_decay():
    adapter, router = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([adapter], [router], changed(learning_rate=0.1, router_multiplier=0.5))
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.025]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {OPTIMIZER.weight_decay}


@pytest.mark.parametrize("name", ["adamw", "adamw_fused"])
def test_one_step_is_adamw_by_hand(name):
    parameter = nn.Parameter(torch.tensor([2.0, -1.0]))
    config = changed(name=name)
    optimizer = build_optimizer([parameter], [], config)
    assert optimizer.param_groups[0]["fused"] == (name == "adamw_fused")
    parameter.grad = torch.tensor([0.5, -3.0])
    assert update(optimizer, config, 1.0) == OPTIMIZER.learning_rate
    decayed = torch.tensor([2.0, -1.0]) * (1 - OPTIMIZER.learning_rate * OPTIMIZER.weight_decay)
    step = OPTIMIZER.learning_rate * torch.tensor([0.5, -3.0]) / (torch.tensor([0.5, 3.0]) + OPTIMIZER.eps)
    assert torch.allclose(parameter.detach(), decayed - step, atol=1e-6)


def test_prodigy_finds_its_own_step_size(capsys):
    config = changed(name="prodigy", learning_rate=1.0, weight_decay=0.01, prodigy={"d0": 1e-6, "d_coef": 1.0})
    parameter = nn.Parameter(torch.full((4,), 3.0))
    optimizer, rates = build_optimizer([parameter], [], config), []
    for _ in range(200):
        parameter.grad = None
        (parameter**2).sum().backward()
        rates.append(update(optimizer, config, 1.0))
    assert (
        float(parameter.detach().abs().max()) < 0.1
        and rates[0] < 1e-3 < rates[-1]
        and rates[-1] == optimizer.param_groups[0]["d"]
    )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": "prodigy"}, "give prodigy: {d0: 1.0e-6, d_coef: 1.0}"),
        ({"prodigy": {"d0": 1e-6, "d_coef": 1.0}}, "prodigy: null with every other name"),
        (
            {"name": "prodigy", "prodigy": {"d0": 1e-6, "d_coef": 1.0}, "router_multiplier": 2.0},
            "one step size for all",
        ),
    ],
)
def test_settings_without_effect_are_refused(keys, words):
    with pytest.raises(ValueError, match=words.replace("{", r"\{")):
        changed(**keys)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_a_sentence_with_the_command(name, monkeypatch):
    module, requirement = PACKAGES[name]
    monkeypatch.setattr("lorweb.training.packages.find_spec", lambda asked: None if asked == module else 1 / 0)
    with pytest.raises(
        ValueError, match=rf"optimizer '{name}' needs the package {module}.*`pip install '{requirement}'`"
    ):
        require_package(name)
    require_package("adamw_fused")
    (missing,), (ok,) = _optimizer(name), _optimizer("adamw_fused")
    assert (missing.state, ok.state) == ("missing", "ok") and requirement in missing.text


def test_the_commands_name_what_the_extras_name():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = {requirement for listed in project["optional-dependencies"].values() for requirement in listed}
    assert {requirement for _, requirement in PACKAGES.values()} <= extras
