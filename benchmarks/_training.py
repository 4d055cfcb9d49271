"""Runs of the training loop for the benchmarks: one frozen base, several variants in it, the same data and noise.

Legend: B batch rows, Q query width, h w latent cells of a quadrant, M images.
"""

import contextlib
import copy
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from _measure import Contestant
from _rivals import PAPER, as_published, einsum_best_path, einsum_in_order, give_query
from torch import Tensor, nn

from lorweb.basis import BasisConfig
from lorweb.config import Train, load_params
from lorweb.kontext.model import TextEmbedding
from lorweb.training.baseline import new_variant
from lorweb.training.dataset import Encoded
from lorweb.training.ema import new_ema
from lorweb.training.optimizer import build_optimizer
from lorweb.training.sampler import AnalogySampler, TrainPair
from lorweb.training.step import Run, take_step
from lorweb.training.stored import QuadrantLatents
from lorweb.training.variants import Variant

ROOT: Final = Path(__file__).parents[1]
TEXT: Final = (64, 256, 128)  # tokens, width of T5's states and of CLIP's pooled vector, of the bases made here
TASKS, SUBJECTS = 4, 4
EINSUMS: Final = {"einsum in order": einsum_in_order, "einsum best path": einsum_best_path}


@dataclass(frozen=True)
class Scene:
    """What all contestants of a race share: a frozen base, a basis for it, and data."""

    transformer: nn.Module
    config: BasisConfig
    encoded: Encoded
    pairs: list[TrainPair]
    train: Train
    device: torch.device


@dataclass(frozen=True)
class Shape:
    """A random base in FLUX.1's architecture: heads of 128, blocks of both kinds, cells of a quadrant's side."""

    heads: int
    double: int
    single: int
    cells: int  # even; a quadrant has (cells / 2)^2 tokens, and the sequence eight times that beside the text
    batch: int
    query: int  # width Q of the query, divisible by 3

    @property
    def name(self) -> str:
        """Width and tokens, as rows of the results call it."""
        return f"width {128 * self.heads}, {2 * self.cells**2 + TEXT[0]} tokens, batch {self.batch}"


def quiet() -> None:
    """Libraries say nothing of loading."""
    import diffusers
    import transformers

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def train_section(**changes: Any) -> Train:
    """The train section of params.yaml with some keys changed."""
    default = load_params(ROOT / "params.yaml").train
    return Train.model_validate({**default.model_dump(), **changes})


def wide(shape: Shape, device: torch.device, precision: str) -> Scene:
    """The paper's basis (N = 32, r = 4, every linear of the blocks) on random weights and random latents."""
    torch.manual_seed(0)
    tokens, width, pooled = TEXT
    names = [f"t{t}-s{s}{side}" for t in range(TASKS) for s in range(SUBJECTS) for side in ("", "-after")]
    pairs = {f"p{t}-{s}": 2 * (t * SUBJECTS + s) for t in range(TASKS) for s in range(SUBJECTS)}
    encoded = Encoded(
        QuadrantLatents(torch.randn(len(names), 16, shape.cells, shape.cells)),
        torch.randn(len(names), shape.query // 3),
        {pair: (row, row + 1) for pair, row in pairs.items()},
        {},
        {t: TextEmbedding(torch.randn(1, tokens, width), torch.randn(1, pooled)) for t in ("", *_instructions())},
        {},
        tuple(names),
        {"params": {"query_mode": PAPER.query_mode}},
    )
    drawn = [TrainPair(f"task{t}", f"s{s}", f"p{t}-{s}", f"do {t}") for t in range(TASKS) for s in range(SUBJECTS)]
    # so low a rate that no number of rounds leads anywhere on random weights
    rate = train_section().optimizer.model_dump() | {"learning_rate": 1e-5, "warmup_steps": 0}
    section = train_section(batch_size=shape.batch, optimizer=rate, precision=precision)
    base = _random_base(shape).to(device, getattr(torch, precision))
    return Scene(base, PAPER.model_copy(update={"query_dim": shape.query}), encoded, drawn, section, device)


def _instructions() -> list[str]:
    return [f"do {t}" for t in range(TASKS)]


def _random_base(shape: Shape) -> nn.Module:
    from diffusers import FluxTransformer2DModel

    made: nn.Module = FluxTransformer2DModel(
        in_channels=64,
        num_layers=shape.double,
        num_single_layers=shape.single,
        attention_head_dim=128,
        num_attention_heads=shape.heads,
        joint_attention_dim=TEXT[1],
        pooled_projection_dim=TEXT[2],
        guidance_embeds=True,
        axes_dims_rope=(16, 56, 56),
    )
    return made.eval().requires_grad_(False)


def make_run(scene: Scene, kind: str, encoded: Any = None, **changes: Any) -> Run:
    """A run of `kind`: "ours", "peft" (`single_lora`), or one of the einsums; `changes` are keys of the train section.

    All start from the base's own function, B being zero. The frozen weights are one copy in memory for all runs.
    """
    model = copy.deepcopy(scene.transformer, {id(p): p for p in scene.transformer.parameters()})
    config = Train.model_validate({**scene.train.model_dump(), **changes})
    variant = new_variant("single_lora" if kind == "peft" else "lorweb", model, scene.config, seed=0)
    if kind in EINSUMS:
        variant = published(variant, EINSUMS[kind])
    if config.gradient_checkpointing:
        variant.transformer.enable_gradient_checkpointing()
    sampler = AnalogySampler(scene.pairs, 0, config.batch_size, config.caption_dropout)
    optimizer = build_optimizer(variant.adapters.values(), variant.router.values(), config.optimizer)
    folder = Path(tempfile.gettempdir())  # for the report of a loss that is not finite
    return Run(
        variant, encoded or scene.encoded, sampler, optimizer, config, folder, new_ema(config.ema, variant.parameters)
    )


def published(ours: Variant, contract: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Variant:
    """The published way with the weights of ours: each layer asks, mixes and contracts for itself (`_rivals`)."""
    model = as_published(ours.transformer, contract)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    adapters = {name: p for name, p in trained.items() if name.rpartition(".")[2] in ("A_NIR", "B_NRO")}

    @contextlib.contextmanager
    def conditioned(query_BQ: Tensor) -> Iterator[None]:
        give_query(model, query_BQ)
        yield

    def save(folder: Path, _facts: object) -> None:
        raise NotImplementedError(f"a rival is not saved, and {folder} stays as it is")

    router = {name: parameter for name, parameter in trained.items() if name not in adapters}
    return Variant("lorweb", model, adapters, router, conditioned, lambda _: None, save)


def stepping(run: Run) -> Callable[[], object]:
    """A call that takes the run's next step, and comes back when the device has."""
    numbers = itertools.count()

    def step() -> None:
        take_step(run, next(numbers))
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)

    return step


def contestant(run: Run) -> Contestant:
    """One step per round. What the last one left of gradients is given back before, and not timed."""
    return Contestant(stepping(run), before=lambda: run.optimizer.zero_grad(set_to_none=True))
