"""Data are encoded before training. Every call of every module is counted: a step calls its transformer alone."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from lorweb.kontext.codec import encode_image
from lorweb.kontext.load import load_base
from lorweb.training.baseline import new_variant
from lorweb.training.dataset import Encoded, load_train_pairs
from lorweb.training.optimizer import build_optimizer
from lorweb.training.sampler import AnalogySampler
from lorweb.training.step import Run, take_step
from lorweb.training.variants import basis_config
from tests.kontext_tiny import drawn_image, save_tiny_kontext
from tests.training.made import train_section, write_data


@contextmanager
def counting() -> Iterator[Counter[torch.nn.Module]]:
    """Forward calls by module, of every module of the process."""
    calls: Counter[torch.nn.Module] = Counter()
    handle = register_module_forward_pre_hook(lambda module, _: calls.update([module]))
    try:
        yield calls
    finally:
        handle.remove()


@pytest.mark.parametrize("name", ["lorweb", "single_lora"])
def test_no_frozen_encoder_is_called_inside_a_step(tmp_path, name):
    base = load_base(str(save_tiny_kontext(tmp_path / "base")), torch.float32, "cpu")
    folders, config = write_data(tmp_path), train_section(accumulate=2, caption_dropout=0.5)
    encoded = Encoded.load(folders.encoded)
    basis = basis_config(config.basis, encoded.query_dim, encoded.query_mode)
    variant = new_variant(name, base.transformer, basis, seed=0)
    sampler = AnalogySampler(load_train_pairs(folders.analogies), 0, config.batch_size, config.caption_dropout)
    optimizer = build_optimizer(variant.adapters.values(), variant.router.values(), config.optimizer)
    run = Run(variant, encoded, sampler, optimizer, config, tmp_path)
    pipe = base.pipeline
    frozen = {id(m) for part in (pipe.vae, pipe.text_encoder, pipe.text_encoder_2) for m in part.modules()}
    with counting() as calls:
        base.text(["do it"])
        encode_image(base, [drawn_image(0, 32, 32)])
    assert sum(count for module, count in calls.items() if id(module) in frozen) > 10, "the counter is blind"
    with counting() as calls:
        for step in range(3):
            take_step(run, step)
    assert sum(count for module, count in calls.items() if id(module) in frozen) == 0
    inside = set(map(id, base.transformer.modules()))
    assert set(map(id, calls)) <= inside and calls[base.transformer] == 3 * config.accumulate
