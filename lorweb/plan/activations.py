"""Bytes that autograd keeps for backward in the blocks of diffusers' FluxTransformer2DModel with a basis in it.

Symbols: b rows (analogies in one forward), T tokens of all rows, D width, K = N * r, c bytes of a value in the linears,
n in LayerNorms, m in RMSNorms. Float32: c = n = m = 4. Autocast (bfloat16 on CUDA): c = 2, n = 4, m = 4 (2 before torch
2.12), and each layer keeps its own
bfloat16 copy of its input, since autocast casts the float32 output of a norm once per use.

Frozen linears keep nothing. A basis layer keeps its input x (for A), A x and e * A x (T * K each, for B and e).
"""

from lorweb.plan.model import Block, Linear, Model
from lorweb.plan.setting import Setting, Tokens


def vectors(linear: Linear, rows: int, tokens: Tokens) -> int:
    """How many vectors pass through a linear in one forward of so many rows."""
    per_row = {"image": tokens.image, "text": tokens.text, "joint": tokens.joint, "row": 1}
    return rows * per_row[linear.stream]


def block_bytes(model: Model, block: Block, tokens: Tokens, setting: Setting) -> int:
    """What one block keeps without gradient checkpointing.

    Per token and channel (times T * D); attention is flash (no S x S matrix):

        double   c * (8 feed-forward before and after GELU + 4 q, k, v, output of attention + 2 outputs under gates + i)
                 + n * (4 in and out of two LayerNorms) + m * (2 q and k before RMSNorm)
                 i: float32 2 modulated inputs (q, k, v share one; feed-forward) + 1 copy of attention output, b > 1;
                 autocast 5 (q, k, v, to_out, feed-forward)
        single   c * (4 before GELU + 5 input of proj_out + 4 + 1 + i) + n * 2 + m * 2
                 i: float32 1 modulated input; autocast 4 (q, k, v, proj_mlp)

    So float32 keeps 23 (22 at b = 1) and 19 values of 4 bytes, autocast 62 and 52 bytes (58 and 48 where m = 2). To
    that come 2 K c for each layer and token, statistics of norms and attention (3 floats a head and token, and some),
    and modulations per row.
    """
    b, c, n, m = setting.rows, setting.compute_bytes, setting.norm_bytes, setting.rms_bytes
    total = b * tokens.joint
    if block.double:
        inputs = 5 if setting.autocast else 2 + (b > 1)
        per_channel = c * (8 + 4 + 2 + inputs) + n * 4 + m * 2
        floats, modulations = 4 + 3 * model.heads, 2 * 9
    else:
        per_channel = c * (4 + 5 + 4 + 1 + (4 if setting.autocast else 1)) + n * 2 + m * 2
        floats, modulations = 2 + 3 * model.heads, 5
    mixed = sum(2 * linear.rank * c * vectors(linear, b, tokens) for linear in block.linears)
    return total * (per_channel * model.width + 4 * floats) + mixed + b * modulations * model.width * c


def boundary_bytes(model: Model, tokens: Tokens, setting: Setting) -> int:
    """What one block keeps with gradient checkpointing: its input, image and text, in the base's dtype: T * D * c."""
    return setting.rows * tokens.joint * model.width * _stream_bytes(setting)


def workspace_bytes(model: Model, block: Block, tokens: Tokens, setting: Setting) -> int:
    """What backward through a block needs for a moment, beyond what the block keeps, at its worst operation.

    Per token and channel: single, float32: 10 values, two gradients of proj_out's 5 D wide input less what is freed by
    then. Single, autocast: 11 c + 7 n = 50 bytes, in the forward that runs again, when proj_out's input is there in
    float32 and is cast; where m = 2 it is not, and 6 c + n = 16 bytes. Double: 4 n. A quantised linear is
    unpacked to the base's dtype while it multiplies.
    """
    per_channel = 4 * setting.norm_bytes if block.double else _single_workspace(setting)
    unpacked = max(linear.values for linear in block.linears) * setting.base_bytes
    extra = 0 if setting.base_weights == "full" else unpacked
    return setting.rows * tokens.joint * model.width * per_channel + extra


def forward_workspace_bytes(model: Model, tokens: Tokens, setting: Setting, rows: int) -> int:
    """What a forward without gradients needs at its worst operation, proj_out of a single block; validation takes it.

    Per token and channel: float32 13 values; autocast as above.
    """
    per_channel = _single_workspace(setting) if setting.autocast else 13 * setting.compute_bytes
    return rows * tokens.joint * model.width * per_channel


def _single_workspace(setting: Setting) -> int:
    c, n = setting.compute_bytes, setting.norm_bytes
    if not setting.autocast:
        return 10 * c
    return 11 * c + 7 * n if setting.rms_bytes == 4 else 6 * c + n


def ends_bytes(model: Model, tokens: Tokens, setting: Setting) -> int:
    """What lies before and after the blocks: inputs of the step, position tables, output norm, and the loss.

    Grids, noise, target and prediction in float32 (8 of 64 channels a noisy token), text in float32 and in the base's
    dtype, cos and sin of S positions in float32, and the final norm's input.
    """
    b, c = setting.rows, _stream_bytes(setting)
    noisy = tokens.image // 2
    grids = 8 * 4 * model.channels * noisy
    text = (4 + c) * (tokens.text * model.text_width + model.pooled_width)
    final = tokens.image * model.width * setting.norm_bytes + tokens.joint * model.width * c
    return b * (grids + text + final) + 8 * tokens.joint * (model.width // model.heads)


def _stream_bytes(setting: Setting) -> int:
    """Bytes of a value that goes from block to block: float32 adapters never make it wider than the base."""
    return setting.base_bytes
