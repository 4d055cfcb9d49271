"""A small encoded data set where the exemplar is the only source of the edit, and runs on a tiny random transformer.

A task adds its own constant to every latent channel; what is added can be read off a and a' alone, since no
instruction is given. Features are channel means, so the query carries it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from safetensors.torch import save

from lorweb.config import Train
from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.shards import write_rows
from lorweb.records import ANALOGY, ENCODED_IMAGE, ENCODED_PAIR, ENCODED_TEXT, TRAIN_PAIR
from lorweb.training.baseline import new_variant
from lorweb.training.dataset import Encoded, Triple, load_train_pairs
from lorweb.training.ema import new_ema
from lorweb.training.frozen import quantise, share_out
from lorweb.training.optimizer import build_optimizer
from lorweb.training.sampler import AnalogySampler, other_exemplar
from lorweb.training.sharding import Shards
from lorweb.training.step import Run
from lorweb.training.stored import view_key
from lorweb.training.validation import HeldOut, ValidationSet
from lorweb.training.variants import basis_config

CHANNELS, SIDE, FEATURES = 16, 4, 16
TEXT_TOKENS, TEXT_WIDTH, POOLED_WIDTH = 4, 32, 32  # what tests.kontext_tiny's transformer takes
SECTION = """
basis: {n_loras: 4, rank: 2, key_dim: 8, heads: 1, activation: softmax, reduce: mean, projection: linear,
        internal: null, targets: ["transformer_blocks.*", "single_transformer_blocks.*"]}
baselines: [single_lora]
optimizer: {name: adamw_fused, learning_rate: 0.01, router_multiplier: 1.0, betas: [0.9, 0.99], eps: 1.0e-6,
            weight_decay: 0.05, max_grad_norm: 1.0, warmup_steps: 2, schedule: cosine,
            prodigy: null}
steps: 10
batch_size: 4
caption_dropout: 1.0
guidance: 1.0
timesteps: uniform
weighting: bell
workers: 1
gpus_per_worker: 0
sharding: none
shard_base: false
base_weights: full
precision: float32
accumulate: 1
gradient_checkpointing: false
offload_activations: false
compile: false
ema: null
checkpoint_every: 5
keep_checkpoints: 2
keep_best: null
async_checkpoints: false
validate_every: 5
validation_analogies: 8
ablations: [shuffled]
stop: null
publish: last
alarms: null
sheet_rows: 2
"""


def train_section(**changes: Any) -> Train:
    """The section above with some keys changed."""
    return Train.model_validate({**yaml.safe_load(SECTION), **changes})


@dataclass(frozen=True)
class Folders:
    """Where the made data lie, in the layout of the stages."""

    encoded: Path
    analogies: Path


def write_data(root: Path, tasks: int = 6, subjects: int = 6, held_out: int = 2, views: int = 0) -> Folders:
    """Images, pairs, text, training pairs, validation analogies; the last `held_out` tasks are never trained."""
    generator = torch.Generator().manual_seed(7)
    images: dict[str, torch.Tensor] = {
        f"s{s}": 0.5 * torch.randn(CHANNELS, SIDE, SIDE, generator=generator) for s in range(subjects)
    }
    pairs, train, analogies = [], [], []
    for task in range(tasks):
        offset = 2.0 * torch.randn(CHANNELS, 1, 1, generator=generator)
        for s in range(subjects):
            images[f"t{task}-s{s}"] = images[f"s{s}"] + offset
            pairs.append({"pair": f"p{task}-{s}", "before": f"s{s}", "after": f"t{task}-s{s}"})
            unseen = task >= tasks - held_out
            row = {
                "pair": f"p{task}-{s}",
                "task": f"task{task}",
                "subject": f"s{s}",
                "instruction": f"do {task}",
                "weight": 1,
            }
            if s >= subjects - 2:
                analogies.append(_analogy(task, subjects, s, "edit" if unseen else "none"))
            elif not unseen:
                train.append(row)
    images |= {view_key(name, view): z + view for name, z in images.items() for view in range(1, 1 + views)}
    folders = Folders(root / "data" / "encoded", root / "data" / "analogies")
    blobs = {name: {"latents": z.half(), "features": z.mean((1, 2)).half()} for name, z in images.items()}
    write_rows([{"image": n, "tensors": save(t)} for n, t in blobs.items()], folders.encoded, ENCODED_IMAGE)
    texts = [_text("")] + [_text(f"do {task}") for task in range(tasks)]
    (folders.encoded / "text").mkdir()
    pq.write_table(pa.Table.from_pylist(texts, ENCODED_TEXT), folders.encoded / "text" / "part-00000.parquet")
    pq.write_table(pa.Table.from_pylist(pairs, ENCODED_PAIR), folders.encoded / "pairs.parquet")
    write_rows(analogies, folders.analogies, ANALOGY)
    write_rows(train, folders.analogies / "train", TRAIN_PAIR)
    recipe = {"query_mode": "cat-aa'b", "views": {"count": views, "smallest": 0.5, "flips": 0.5}}
    write_manifest(folders.encoded, Manifest(len(images), {}, recipe, {}))
    write_manifest(folders.analogies, Manifest(len(analogies), {}, {}, {}))
    return folders


def _analogy(task: int, subjects: int, query: int, holdout: str) -> dict[str, Any]:
    exemplar = subjects - 1 if query == subjects - 2 else subjects - 2
    return {
        "id": f"v{task}-{query}",
        "task": f"task{task}",
        "edit_type": "colour",
        "exemplar": f"p{task}-{exemplar}",
        "query": f"p{task}-{query}",
        "instruction": f"do {task}",
        "split": "val",
        "holdout": holdout,
        "subject_seen": False,
    }


def _text(instruction: str) -> dict[str, Any]:
    embedding = torch.full((TEXT_TOKENS, TEXT_WIDTH), 0.01 * len(instruction))
    tensors = {"prompt_embeds": embedding.half(), "pooled": embedding[0, :POOLED_WIDTH].half().contiguous()}
    return {"instruction": instruction, "tensors": save(tensors)}


def make_run(
    folders: Folders, config: Train, name: str = "lorweb", work: Path | None = None, device: str = "cpu"
) -> Run:
    """A run on a tiny random transformer; equal arguments give equal runs."""
    from tests.kontext_tiny import tiny_transformer

    encoded = Encoded.load(folders.encoded)
    transformer = tiny_transformer(seed=0).to(torch.bfloat16 if config.precision == "bfloat16" else torch.float32)
    basis = basis_config(config.basis, encoded.query_dim, encoded.query_mode)
    variant = new_variant(name, transformer, basis, seed=0)
    quantise(transformer, config.base_weights, torch.device(device))
    if config.shard_base:
        share_out(transformer, torch.device(device))
    transformer.to(device)
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    sampler = AnalogySampler(load_train_pairs(folders.analogies), 0, config.batch_size, config.caption_dropout)
    shards = Shards(config.sharding, variant.parameters)
    optimizer = build_optimizer(shards.own(variant.adapters), shards.own(variant.router), config.optimizer)
    ema = new_ema(config.ema, variant.parameters)
    return Run(variant, encoded, sampler, optimizer, config, work or folders.encoded.parent, ema, shards)


def held_out(folders: Folders) -> list[ValidationSet]:
    """The made validation analogies, by split."""
    from lorweb.data.shards import read_table

    sets: dict[str, list[HeldOut]] = {"seen": [], "unseen": []}
    rows = read_table(folders.analogies, ANALOGY).to_pylist()
    for row in rows:
        other = other_exemplar(row, rows)
        split = "seen" if row["holdout"] == "none" else "unseen"
        sets[split].append(HeldOut(row["id"], row["task"], Triple(row["exemplar"], row["query"], ""), other))
    return [ValidationSet(split, tuple(found)) for split, found in sets.items()]


def weights(run: Run) -> dict[str, torch.Tensor]:
    """Copies of all that is trained."""
    return {name: parameter.detach().clone() for name, parameter in run.variant.parameters.items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Same names, same bits."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def parts(total: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """A sequence dealt to `count` ranks."""
    return [total[rank::count] for rank in range(count)]
