"""The search for what fits: against every combination there is, and by the paper's numbers."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lorweb.config import Train
from lorweb.plan import fit as module
from lorweb.plan.devices import device
from lorweb.plan.fit import RESERVE, Question, changed, fits
from lorweb.plan.memory import memory
from lorweb.plan.report import Given, make_plan
from lorweb.plan.setting import Setting, read_setting
from lorweb.profiles import load_profile
from tests.plan.counted import Shape, planned, section

ROOT = Path(__file__).parents[2]
SHAPE = Shape(width=128, doubles=2, singles=3, quadrant=12, text=16)


@pytest.fixture(scope="module")
def question() -> Question:
    return Question(planned(SHAPE, CONFIG)[0], SHAPE.tokens, device("a100"), 0.4)


CONFIG = section(batch_size=6, gpus_per_worker=1, precision="bfloat16")


def peak(question: Question, setting: Setting) -> int:
    return memory(question.model, setting, question.tokens).peak


def test_what_fits_as_it_is_is_left_alone(question) -> None:
    setting = read_setting(CONFIG)
    (found,) = fits(question, setting, (peak(question, setting) + RESERVE,))
    assert found.changes == () and found.setting == setting and found.relative_time == 1


def test_the_first_that_fits_costs_no_more_than_any_other_that_does(question) -> None:
    setting = read_setting(CONFIG)
    own = peak(question, setting)
    sizes = tuple(RESERVE + own * share for share in (0.9, 0.7, 0.4, 0.2))
    found = fits(question, setting, sizes)
    everything = [c for c in module._candidates(setting) if c.workers == 1]
    assert len(everything) > 10
    cost = partial(module._cost, question)
    for size, fit in zip(sizes, found, strict=True):
        able = [c for c in everything if peak(question, c) + RESERVE <= size]
        assert bool(able) and fit.setting is not None
        assert peak(question, fit.setting) == fit.peak <= size - RESERVE
        assert cost(fit.setting) <= min(map(cost, able)) + 0.011 * cost(setting)
    assert [len(fit.changes) for fit in found] == sorted(len(fit.changes) for fit in found)


@pytest.mark.slow
def test_where_nothing_fits_it_says_what_is_needed_at_least(question) -> None:
    (found,) = fits(question, read_setting(CONFIG), (1e6,))
    assert found.setting is None and "gradient_checkpointing: true" in found.changes
    assert found.peak == min(peak(question, c) for c in module._candidates(read_setting(CONFIG)))


def test_what_is_proposed_is_a_section_that_the_parameters_take(question) -> None:
    setting = read_setting(CONFIG)
    for candidate in module._candidates(setting):
        asked = dict(line.split(": ") for line in changed(setting, candidate))
        plain = {key: value for key, value in asked.items() if key != "optimizer.name"}
        optimizer = {**CONFIG.optimizer.model_dump(), "name": candidate.optimizer}
        taken = Train.model_validate({**CONFIG.model_dump(), **plain, "optimizer": optimizer})
        assert read_setting(taken) == candidate


def test_the_paper_fits_80_gb_and_quantised_24() -> None:
    params = load_profile(ROOT, "paper")
    params = params.model_copy(update={"train": params.train.model_copy(update={"accumulate": 1})})
    plan = make_plan(params.encode.base, params, Given("h100", 0.4, None, None))
    sizes = {round(fit.size / 1e9): fit for fit in plan.fits}
    assert all(fit.setting and fit.peak + RESERVE <= fit.size for fit in plan.fits)
    assert sizes[24].setting.base_weights == "nf4" and sizes[24].setting.optimizer.startswith("adamw_8bit")
    assert sizes[80].relative_time <= sizes[48].relative_time <= sizes[24].relative_time < 2


def test_more_workers_only_where_nothing_else_fits(question) -> None:
    setting = replace(read_setting(CONFIG), base_weights="nf4", optimizer="adamw_8bit", gradient_checkpointing=True)
    alone = [peak(question, c) for c in module._candidates(setting) if c.workers == 1]
    together = [peak(question, c) for c in module._candidates(setting) if c.workers > 1]
    assert min(together) < min(alone)
    (found,) = fits(question, setting, (RESERVE + min(alone) - 1,))
    assert found.setting is not None and found.setting.workers > 1
