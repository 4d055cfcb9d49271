"""One step of pre-training: examples, the loss of Eq. 1, and the learning rate at every moment of a call."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from lorweb.kontext.flow import add_noise, draw_noise, draw_timesteps, flow_loss, weigh
from lorweb.kontext.grid import Size
from lorweb.kontext.model import Conditions, TextEmbedding, guidance_vector, velocity
from lorweb.kontext.tokens import pack, positions
from lorweb.tiny.architecture import MAX_SEQUENCE_LENGTH
from lorweb.tiny.batches import Corpus, Examples, grid_examples, single_examples
from lorweb.tiny.state import TrainState

Numbers = dict[str, Any]
"""pretrain.yaml."""


def trained_parts(pipe: Any) -> nn.ModuleDict:
    """What pre-training changes: the transformer and both text encoders."""
    return nn.ModuleDict(
        {"transformer": pipe.transformer, "text_encoder": pipe.text_encoder, "text_encoder_2": pipe.text_encoder_2}
    )


def set_rate(optimizer: Any, n: Numbers, step: int, left: float) -> None:
    """Linear warm-up, constant, and linear to zero over the last 30 % of the time of this call."""
    factor = min(1.0, (step + 1) / n["warmup_steps"], left / 0.3)
    for group in optimizer.param_groups:
        group["lr"] = n["learning_rate"] * factor


def examples_of(pairs: Corpus, n: Numbers, step: int) -> Iterator[Examples]:
    """Instruction edits of single images, then of the last image of grids; they depend on (seed, step) alone."""
    key = (n["seed"], step)
    yield single_examples(pairs, n["single_batch"], key, n["caption_dropout"])
    yield grid_examples(pairs, n["grid_batch"], key, n["caption_dropout"])


def train_step(
    pipe: Any, parts: nn.ModuleDict, optimizer: Any, groups: Iterator[Examples], n: Numbers, state: TrainState
) -> float:
    """One optimiser step over the single and the grid examples; returns the mean loss."""
    total = 0.0
    for number, examples in enumerate(groups):
        loss = example_loss(pipe, examples, n, (state.step, number)) / 2
        loss.backward()
        total += float(loss.detach())
    nn.utils.clip_grad_norm_(parts.parameters(), n["max_grad_norm"])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    state.advance(parts, n["ema"])
    return total


def example_loss(pipe: Any, examples: Examples, n: Numbers, key: tuple[int, int]) -> Tensor:
    """Eq. 1 on the examples; noise and timesteps depend on `key` alone."""
    batch, size = len(examples.x0), Size(*examples.x0.shape[-2:])
    indices = [1000 * key[1] + i for i in range(batch)]
    x1 = draw_noise(tuple(examples.x0.shape[1:]), n["seed"], key[0], indices)
    t_B = draw_timesteps("logit_normal", n["seed"], key[0], indices)
    z_BLD = pack(add_noise(examples.x0, x1, t_B))
    prompt_BTE, pooled_BP, _ = pipe.encode_prompt(examples.prompts, max_sequence_length=MAX_SEQUENCE_LENGTH)
    given = Conditions(
        pack(examples.y),
        TextEmbedding(prompt_BTE, pooled_BP),
        guidance_vector(pipe.transformer, n["guidance_scale"], z_BLD),
        positions(size, prompt_BTE.shape[1], z_BLD),
    )
    v_BLD = velocity(pipe.transformer, z_BLD, t_B, given)
    return flow_loss(v_BLD, pack(examples.x0), pack(x1), weigh("plain", t_B))
