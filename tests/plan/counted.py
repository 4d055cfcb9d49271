"""Real training steps of a random FluxTransformer2DModel of any size, and a count of all tensors alive meanwhile."""

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lorweb.config import Train
from lorweb.kontext.model import TextEmbedding
from lorweb.plan.memory import Memory, memory
from lorweb.plan.model import Model, Others, read_model
from lorweb.plan.setting import Tokens, read_setting
from lorweb.training.baseline import new_variant
from lorweb.training.dataset import Encoded
from lorweb.training.ema import new_ema
from lorweb.training.optimizer import build_optimizer
from lorweb.training.sampler import AnalogySampler, TrainPair
from lorweb.training.step import Run, take_step
from lorweb.training.stored import QuadrantLatents
from lorweb.training.variants import basis_config
from tests.training.made import train_section

FEATURES, TEXT_WIDTH = 16, 32


@dataclass(frozen=True)
class Shape:
    """A transformer and its inputs; `quadrant` in latent cells."""

    width: int
    doubles: int
    singles: int
    quadrant: int
    text: int

    @property
    def tokens(self) -> Tokens:
        return Tokens(2 * self.quadrant**2, self.text)  # two grids, each of (2 q / 2)^2 tokens


def transformer(shape: Shape) -> Any:
    head = min(128, shape.width // 2)
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        num_layers=shape.doubles,
        num_single_layers=shape.singles,
        attention_head_dim=head,
        num_attention_heads=shape.width // head,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(head // 4, head // 4, head // 2),
    ).eval()


def planned(shape: Shape, config: Train) -> tuple[Model, Memory]:
    """What the plan says of it, from the meta device."""
    with torch.device("meta"):
        empty = transformer(shape)
    model = read_model(empty, basis_config(config.basis, 3 * FEATURES, "cat-aa'b"), Others(0, 0))
    return model, memory(model, read_setting(config), shape.tokens)


def make_run(shape: Shape, config: Train, device: str, folder: Path) -> Run:
    """A run on random latents of eight images."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 16, shape.quadrant, shape.quadrant, generator=generator).half()
    text = TextEmbedding(torch.zeros(1, shape.text, TEXT_WIDTH), torch.zeros(1, TEXT_WIDTH))
    pairs = {f"p{i}": (2 * i, 2 * i + 1) for i in range(4)}
    features = torch.randn(8, FEATURES, generator=generator)
    manifest = {"params": {"query_mode": "cat-aa'b"}}
    texts = {"": text, "do": text}
    names = tuple(map(str, range(8)))
    encoded = Encoded(QuadrantLatents(images), features, pairs, {}, texts, {}, names, manifest)
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    base = transformer(shape).to(device, dtype)
    variant = new_variant("lorweb", base, basis_config(config.basis, encoded.query_dim, encoded.query_mode), 0)
    if config.gradient_checkpointing:
        base.enable_gradient_checkpointing()
    sampler = AnalogySampler([TrainPair("t", p, p, "do", 1) for p in pairs], 0, config.batch_size, 1.0)
    optimizer = build_optimizer(variant.adapters.values(), variant.router.values(), config.optimizer)
    return Run(variant, encoded, sampler, optimizer, config, folder, new_ema(config.ema, variant.parameters))


class Live(TorchDispatchMode):
    """Bytes of all storages that live now, and the most at once; each counts once, however many tensors look at it."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.bytes: dict[int, int] = {}
        self.now = self.most = 0
        for tensor in known:
            self.see(tensor)

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.bytes:
            self.bytes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self.bytes.pop(key)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        return found


def tensors_of(run: Run) -> list[Tensor]:
    """All that rests between two steps: base, what is trained, moments, average."""
    moments = [v for state in run.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    average = list(run.ema.values.values()) if run.ema else []
    return [*run.variant.transformer.parameters(), *run.variant.transformer.buffers(), *moments, *average]


def count(run: Run) -> dict[str, int]:
    """Bytes of the second step, by the plan's names: resting components, `kept` by a forward, and the two peaks."""
    take_step(run, 0)
    run.optimizer.zero_grad(set_to_none=True)
    trained = run.variant.parameters
    live = Live(tensors_of(run))
    peaks = {}

    def before(*_: Any) -> None:
        peaks["backward"], live.most = live.most, live.now

    handle = run.optimizer.register_step_pre_hook(before)
    kept: dict[int, int] = {}
    weights = {tensor.untyped_storage()._cdata for tensor in run.variant.transformer.parameters()}
    holding = []  # so that no storage goes, and another comes with its name

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights | kept.keys():
            kept[storage._cdata] = storage.nbytes()
        holding.append(storage)
        return tensor

    with live:
        take_step(run, 1)
    peaks["update"] = live.most
    handle.remove()
    gradients = sum(p.grad.nbytes for p in trained.values() if p.grad is not None)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _forward(run)
    frozen = [p for p in run.variant.transformer.parameters() if not p.requires_grad]
    return {
        "base": sum(p.nbytes for p in frozen),
        "adapters": sum(p.nbytes for p in run.variant.adapters.values()),
        "router": sum(p.nbytes for p in run.variant.router.values()),
        "moments": sum(v.nbytes for s in run.optimizer.state.values() for v in s.values() if isinstance(v, Tensor)),
        "average": sum(value.nbytes for value in run.ema.values.values()) if run.ema else 0,
        "gradients": gradients,
        "kept": sum(kept.values()),
        **peaks,
    }


def _forward(run: Run) -> Tensor:
    """The forward of the largest micro-batch, as the step runs it."""
    from lorweb.kontext import flow
    from lorweb.training.dataset import Triple
    from lorweb.training.step import Noised, micro_batches, predict

    drawn = max(micro_batches(run.sampler.batch(0), run.config.accumulate), key=len)
    batch = run.encoded.grid_batch([Triple(d.exemplar, d.query, d.instruction) for d in drawn]).to(run.device)
    noise = flow.draw_noise(tuple(batch.x0_BCHW.shape[1:]), 0, 0, list(range(len(drawn)))).to(run.device)
    noised = Noised(noise, torch.full([len(drawn)], 0.5, device=run.device))
    with run.variant.conditioned(batch.query_BQ):
        return flow.sample_losses(predict(run.variant, batch, noised, 1.0), batch.x0_BCHW, noise).sum()


def kept_by_plan(shape: Shape, config: Train, model: Model) -> int:
    """What the plan says a forward keeps: of the blocks, the output norm, the loss, and bfloat16 copies of A and B."""
    from lorweb.plan.memory import _kept

    setting = read_setting(config)
    blocks = sum(_kept(model, setting, shape.tokens))
    norm = setting.rows * shape.tokens.image * model.width * setting.norm_bytes
    loss = setting.rows * shape.tokens.image // 2 * 64 * 4
    casts = 2 * model.adapters if setting.autocast and not setting.gradient_checkpointing else 0
    return blocks + norm + loss + casts


def section(**changes: Any) -> Train:
    """A train section whose basis is large beside its layers, as the paper's."""
    basis = {"n_loras": 4, "rank": 2, "key_dim": 8, "heads": 1, "activation": "softmax", "reduce": "mean"}
    rest = {
        "projection": "linear",
        "internal": None,
        "targets": ["transformer_blocks.*", "single_transformer_blocks.*"],
    }
    return train_section(**{"basis": {**basis, **rest}, **changes})


def off(planned: float, counted: float) -> float:
    """By which share the plan is off."""
    return abs(planned / counted - 1)
