"""What a training worker trains: a variant on the frozen base, its data, and what it is validated on."""

from pathlib import Path
from typing import Any

import torch

from lorweb.config import Train
from lorweb.data.shards import read_table
from lorweb.kontext.load import Base
from lorweb.records import ANALOGY
from lorweb.training.baseline import new_variant
from lorweb.training.dataset import Encoded, Triple, load_train_pairs
from lorweb.training.ema import new_ema
from lorweb.training.frozen import settle
from lorweb.training.optimizer import build_optimizer
from lorweb.training.sampler import AnalogySampler, other_exemplar
from lorweb.training.sharding import Shards
from lorweb.training.step import Run
from lorweb.training.validation import HeldOut, ValidationSet, choose
from lorweb.training.variants import basis_config
from pipelines._train_plan import TrainPlan, variant_folder


def held_out_sets(plan: TrainPlan, encoded: Encoded) -> list[ValidationSet]:
    """Validation analogies, seen and unseen; splits without any are left out."""
    config = plan.config
    rows = [row for row in read_table(Path(plan.analogies), ANALOGY).to_pylist() if row["split"] == "val"]
    found: dict[str, list[HeldOut]] = {"seen": [], "unseen": []}
    for row in rows:
        text = row["instruction"] if config.caption_dropout < 1 else ""  # as in training: never seen, never asked
        split = "seen" if row["holdout"] == "none" else "unseen"
        other = other_exemplar(row, rows) or row["exemplar"]
        found[split].append(HeldOut(row["id"], row["task"], Triple(row["exemplar"], row["query"], text), other))
    _check_encoded(encoded, {pair for row in rows for pair in (row["exemplar"], row["query"])})
    return [choose(all_, split, config.validation_analogies, plan.seed) for split, all_ in found.items() if all_]


def _check_encoded(encoded: Encoded, pairs: set[str]) -> None:
    missing = sorted(pairs - set(encoded.pairs))
    if missing:
        raise ValueError(
            f"{len(missing)} pairs of data/analogies are not in data/encoded, first {missing[0]}; run the encode stage"
        )


def make_run(plan: TrainPlan, name: Any, base: Base, encoded: Encoded) -> Run:
    """A variant on the base, untrained, and all that its steps read. Raises ValueError: the data do not fit."""
    config = plan.config
    variant = new_variant(
        name, base.transformer, basis_config(config.basis, encoded.query_dim, encoded.query_mode), plan.seed
    )
    settle(base, config, device_of(config))
    if config.gradient_checkpointing:
        base.transformer.enable_gradient_checkpointing()
    if config.compile:
        base.transformer.compile_repeated_blocks()
    pairs = load_train_pairs(Path(plan.analogies))
    _check_encoded(encoded, {pair.pair for pair in pairs})
    sampler = AnalogySampler(pairs, plan.seed, config.batch_size, config.caption_dropout, encoded.pool)
    shards = Shards(config.sharding, variant.parameters)
    optimizer = build_optimizer(shards.own(variant.adapters), shards.own(variant.router), config.optimizer)
    ema = new_ema(config.ema, variant.parameters)
    return Run(variant, encoded, sampler, optimizer, config, variant_folder(plan, name), ema, shards)


def device_of(config: Train) -> torch.device:
    """Where this worker trains."""
    if not config.gpus_per_worker:
        return torch.device("cpu")
    from ray.train.torch import get_device

    device: torch.device = get_device()
    return device
