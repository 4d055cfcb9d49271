import math

import torch
from torch import nn

from lorweb.training.optimizer import build_optimizer, schedule_factor, set_learning_rate
from tests.training.made import train_section

OPTIMIZER = train_section().optimizer


def changed(**keys):
    return OPTIMIZER.model_copy(update=keys)


def test_warm_up_then_constant():
    config = changed(warmup_steps=4, schedule="constant")
    assert [schedule_factor(step, 10, config) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_falls_from_one_to_zero():
    config = changed(warmup_steps=0, schedule="cosine")
    factors = [schedule_factor(step, 10, config) for step in range(11)]
    assert factors[0] == 1.0 and math.isclose(factors[5], 0.5) and factors[10] < 1e-12
    assert factors == sorted(factors, reverse=True)


def test_the_router_has_its_own_learning_rate_and_the_same_decay():
    adapter, router = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([adapter], [router], changed(learning_rate=0.1, router_multiplier=0.5))
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.025]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {OPTIMIZER.weight_decay}


def test_one_step_is_adamw_by_hand():
    parameter = nn.Parameter(torch.tensor([2.0, -1.0]))
    optimizer = build_optimizer([parameter], [], OPTIMIZER)
    parameter.grad = torch.tensor([0.5, -3.0])
    set_learning_rate(optimizer, 1.0)
    optimizer.step()
    decayed = torch.tensor([2.0, -1.0]) * (1 - OPTIMIZER.learning_rate * OPTIMIZER.weight_decay)
    update = OPTIMIZER.learning_rate * torch.tensor([0.5, -3.0]) / (torch.tensor([0.5, 3.0]) + OPTIMIZER.eps)
    assert torch.allclose(parameter.detach(), decayed - update, atol=1e-6)
