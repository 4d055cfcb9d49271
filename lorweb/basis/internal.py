"""Internal queries: a layer asks with its own input, pooled over the tokens that a mode names.

No encoder is needed. The price: coefficients change with layer, step and noise, so they can be neither computed once
per analogy nor folded into weights.

Legend: B batch, S tokens that a layer sees, M tokens of them that are pooled, I width of the layer's input,
T text tokens, G image tokens (noisy grid, then control grid).
"""

import re
from typing import Final, Literal

import torch
from torch import Tensor

from lorweb.config_errors import unknown_name

Stream = Literal["image", "text", "joint"]
MODES: Final = {
    "aa'bb'": "every token of the layer, noisy and text tokens included",
    "caa'bb'": "the control grid",
    "caa'": "the upper half of the control grid: a and a'",
    "caa'b": "the control grid without its bottom-right quadrant: a, a' and one copy of b",
}
TEXT_LAYERS: Final = ("norm1_context", "ff_context", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")


def check_internal_mode(name: str) -> None:
    """Raises ValueError with the nearest valid name unless `name` is a row of `MODES`."""
    if name not in MODES:
        raise ValueError(unknown_name("internal query_mode", name, MODES))


def stream_of(layer: str) -> Stream:
    """Which tokens a layer of FLUX.1 sees, by its module name: a double block's image or text, or all of them.

    Raises:
        ValueError: a layer outside of the blocks.
    """
    found = re.search(r"(?:^|\.)(single_)?transformer_blocks\.", layer)
    if found is None:
        raise ValueError(f"{layer} lies outside of the blocks, and an internal query does not know what it sees there")
    if found[1]:
        return "joint"
    return "text" if any(f".{part}" in layer for part in TEXT_LAYERS) else "image"


def token_indices(mode: str, img_ids_G3: Tensor, text_tokens: int) -> dict[Stream, Tensor | None]:
    """Indices [M] of the tokens that a layer of each stream pools; None means all of them.

    `img_ids_G3` are the position ids (t, row, column) that the transformer gets: t is 0 for noisy, 1 for control
    tokens. Quadrants are cut by rows and columns, whatever the aspect of the grid. Layers that see text alone pool all
    of it. Layers with one vector per row (modulation) have no tokens, and ask with the vector itself.

    Raises:
        ValueError: unknown mode, or a mode on the control grid without control tokens.
    """
    check_internal_mode(mode)
    if mode == "aa'bb'":
        return {"image": None, "text": None, "joint": None}
    t_G, row_G, column_G = img_ids_G3.unbind(-1)
    control_G = t_G == 1
    if not bool(control_G.any()):
        raise ValueError(f"query_mode '{mode}' pools the control grid, but no image token has position id t = 1")
    upper_G = row_G <= row_G[control_G].max() / 2
    left_G = column_G <= column_G[control_G].max() / 2
    chosen_G = {"caa'bb'": control_G, "caa'": control_G & upper_G, "caa'b": control_G & (upper_G | left_G)}[mode]
    image_M = torch.nonzero(chosen_G).flatten()
    return {"image": image_M, "text": None, "joint": image_M + text_tokens}


def pool(x: Tensor, tokens_M: Tensor | None, pooling: str) -> Tensor:
    """The query [B, I], float32, of a layer input [B, S, I]; an input [B, I] is its own query."""
    if x.ndim == 2:
        return x.float()
    x_BMI = (x if tokens_M is None else x.index_select(1, tokens_M)).float()
    return x_BMI.mean(1) if pooling == "avg" else x_BMI.amax(1)
