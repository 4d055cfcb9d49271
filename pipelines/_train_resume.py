"""Going on: with the same MLflow run, and from the checkpoints of another training when a person says so.

A training lies in .work/train/<fingerprint> of settings, data and code. A start under the same fingerprint goes on by
itself. Under another one it begins anew, in a folder of its own, so that two settings never mix by accident; `adopt`
mixes them on purpose, and every checkpoint and the model say so from then on.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lorweb.training.state import Snapshot, differences
from lorweb.training.stopping import best_step
from pipelines._stage import StageFailed, write_text
from pipelines._train_homes import Home, all_finished, home_in, other_training, own_home, said_beside
from pipelines._train_plan import TrainPlan, depot_key

__all__ = ["adopt", "earlier_run", "other_training", "remark", "remember_run"]
RUN_FILE: Final = "mlflow_run.json"
# Weights and moments of one side mean nothing to the other where these differ.
_FIXED: Final = ("train.basis.", "train.optimizer.name", "base", "encoder", "query_mode", "variant")
# Losses of held-out analogies cannot be compared over these: the best step so far is none.
_OTHER_MEASURE: Final = ("data.", "seed ", "train.validation_analogies ", "train.guidance ", "train.caption_dropout ")
_MANY: Final = 5  # differences in a passing remark


def earlier_run(plan: TrainPlan) -> str | None:
    """The MLflow run of an earlier start of the same work in the same database, so that it goes on.

    Known from a file beside the checkpoints, or from the newest checkpoint itself.
    """
    said = said_beside(plan, RUN_FILE)
    found = json.loads(said) if said else _run_in_checkpoints(plan)
    return found.get("run_id") if found.get("tracking") == plan.server else None


def remember_run(plan: TrainPlan, run_id: str) -> None:
    """Written before the first step, so that no kill can make a second run of the same training."""
    said = json.dumps({"run_id": run_id, "tracking": plan.server})
    if plan.store is None:
        write_text(Path(plan.work) / RUN_FILE, said)
    else:
        plan.store.write(depot_key(plan, RUN_FILE), said.encode())


def remark(plan: TrainPlan) -> str | None:
    """What to tell a person whose start begins anew although another training is unfinished; None if all is well."""
    other, first = other_training(plan), plan.variants[0]
    if other is None or own_home(plan, first).newest()[0] is not None or all_finished(plan, other):
        return None
    home = home_in(plan, other, first)
    step, _ = home.newest()
    if step is None:
        return None
    state = home.state(step)
    found = differences(state.identity, {**plan.identity, "variant": first})
    more = f" and {len(found) - _MANY} more" if len(found) > _MANY else ""
    return (
        f"begins anew; {other} stands unfinished at step {state.step} under other settings "
        f"({'; '.join(found[:_MANY])}{more}): `python -m pipelines.train --allow-mismatch` goes on from there instead"
    )


def adopt(plan: TrainPlan, source: Path, allow_mismatch: bool) -> list[str]:
    """Let the plan go on from the newest whole checkpoints of the training in `source`; sentences about what was done.

    Variants that have a checkpoint of their own are left alone, so that the same command can be given again.

    Raises:
        StageFailed: there is no whole checkpoint, or it was trained under other settings and that is not allowed, or
            cannot be (other weights, more steps than planned).
    """
    said: list[str] = []
    for name in plan.variants:
        own, home = own_home(plan, name), home_in(plan, source, name)
        if (mine := own.newest()[0]) is not None:
            said.append(
                f"{name} goes on from its own {own.where(mine)}; to take that of {source} instead, delete {own}"
            )
            continue
        step, damaged = home.newest()
        said += [f"skipped the damaged checkpoint {bad.path}: {bad.reason}" for bad in damaged]
        if step is None and name == plan.variants[0]:
            raise StageFailed(
                f"{source} has no whole checkpoint of {name}; give a folder below .work/train that has one"
            )
        if step is None:
            said.append(f"{name} begins anew: {source} has no checkpoint of it")
            continue
        state = home.state(step)
        identity = {**plan.identity, "variant": name}
        found = differences(state.identity, identity)
        _check(home.where(step), step, found, plan, allow_mismatch)
        facts = _facts(state.facts, state.step, found)
        if "validation" in facts:
            said.append(f"{name} has no best step yet: earlier validation was on other data or settings")
        else:
            said += _adopt_best(plan, home, state, identity, facts)  # first: with the newest, the variant stands
        own.adopt(home, step, identity, facts)
        how = f"under other settings: {'; '.join(found)}" if found else "under the same settings"
        said.append(f"{name} goes on from {home.where(step)}, {how}")
    return said


def _adopt_best(
    plan: TrainPlan, home: Home, newest: Snapshot, identity: Mapping[str, str], facts: Mapping[str, Any]
) -> list[str]:
    """The checkpoint of the best step so far as well, where that may be published; a sentence if it is gone.

    Raises:
        StageFailed: it is gone, and is what would be published.
    """
    config = plan.config
    best = best_step(newest.facts["validation"], config.keep_best) if config.keep_best else None
    if best is None or best == newest.step:
        return []
    try:
        own_home(plan, identity["variant"]).adopt(home, best, identity, facts)
    except ValueError as error:
        sentence = f"step {best} was the best by validation on {config.keep_best}, but it is gone ({error})"
        if config.publish == "best":
            raise StageFailed(f"{sentence}; set train.publish to last, and go on with --allow-mismatch") from error
        return [sentence]
    return []


def _check(path: str, step: int, found: list[str], plan: TrainPlan, allow_mismatch: bool) -> None:
    fixed = [difference for difference in found if difference.startswith(_FIXED) or _average_comes_or_goes(difference)]
    if fixed:
        raise StageFailed(f"{path} holds other weights than these settings ask for: {'; '.join(fixed)}; begin anew")
    if found and not allow_mismatch:
        raise StageFailed(
            f"{path} was trained under other settings: {'; '.join(found)}; "
            "restore them, or add --allow-mismatch to go on under the new ones"
        )
    if step > plan.config.steps:
        raise StageFailed(f"{path} has {step} steps already, and train.steps is {plan.config.steps}; raise it")


def _average_comes_or_goes(difference: str) -> bool:
    return difference.startswith("train.ema ") and "null" in difference


def _facts(facts: Mapping[str, Any], step: int, found: list[str]) -> dict[str, Any]:
    """What an adopted checkpoint says of its past. Another training is another MLflow run."""
    if not found:
        return {}
    past = {"step": step, "run_id": (facts.get("mlflow") or {}).get("run_id"), "differences": found}
    measured_anew: dict[str, Any] = {"validation": []} if any(said.startswith(_OTHER_MEASURE) for said in found) else {}
    return {"mlflow": {}, "resumed": [*facts.get("resumed", []), past], **measured_anew}


def _run_in_checkpoints(plan: TrainPlan) -> dict[str, Any]:
    home = own_home(plan, plan.variants[0])
    step, _ = home.newest()
    found: dict[str, Any] = home.state(step).facts.get("mlflow", {}) if step is not None else {}
    return found
