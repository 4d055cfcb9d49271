"""How a worker keeps the frozen base: as it is, in fewer bits, or a share of it. What is published never knows.

Both are done after the basis or LoRAs are in place, so that these begin with the same bytes whatever the base is kept
in, and while the base still lies in host memory, so that a device never holds the whole of it.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch
from torch import nn

from lorweb.config import Train
from lorweb.kontext.load import Base, load_base
from lorweb.training import reduce
from lorweb.training.entries import BaseWeights

_BLOCKS: Final = ("transformer_blocks", "single_transformer_blocks")
# Weights that share a scale, the first of these that cuts rows evenly (64 in QLoRA and at every width of FLUX):
# bitsandbytes 0.50 garbles blocks that span two rows on a CPU.
_NF4_BLOCKS: Final = (64, 32)


def load_frozen(name: str, config: Train, device: torch.device) -> Base:
    """The base as training begins with it, without its text encoders: prompts come embedded.

    `settle` follows once the trainable part is in. Raises as `load_base`.
    """
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    return load_base(name, dtype, "cpu" if _staged(config) else device, text=False)


def settle(base: Base, config: Train, device: torch.device) -> None:
    """Quantise or share out the frozen weights as `config` says, and move the rest to the device, in place."""
    if not _staged(config):
        return
    quantise(base.transformer, config.base_weights, device)
    if config.shard_base:
        share_out(base.transformer, device)
    base.pipeline.to(device)


def _staged(config: Train) -> bool:
    return config.shard_base or config.base_weights != "full"


def quantise(transformer: nn.Module, how: BaseWeights, device: torch.device) -> list[str]:
    """Quantise the frozen weights of all linears in the blocks, in place, one after the other; returns their names.

    They come to lie on `device`. What is trained, embeddings, norms and the output stay as they are. "int8" (torchao):
    symmetric, a scale per output channel. "nf4" (bitsandbytes): 4-bit normal floats, a scale per 64 weights, the scales
    quantised again; widths that are no multiple of 32 stay as they are. "full" changes nothing. Products are computed
    in the dtype that the weights had.
    """
    if how == "full":
        return []
    linears = {name: module for name, module in transformer.named_modules() if name.startswith(_BLOCKS)}
    names = [name for name, module in linears.items() if _frozen(module) and (how == "int8" or _nf4_block(module))]
    assert names, "this transformer has no linear in its blocks"
    for name in names:
        linear = transformer.get_submodule(name)
        assert isinstance(linear, nn.Linear), name
        if how == "int8":
            _to_int8(linear.to(device))
        else:
            parent, _, child = name.rpartition(".")
            setattr(transformer.get_submodule(parent), child, _nf4(linear, device))
    return names


def share_out(transformer: Any, device: torch.device) -> None:
    """Cut every frozen weight into a part per worker (FSDP2), in place; a block gathers its own while it is in use.

    From then on all workers run the transformer together, the same number of times. What is trained stays whole, so
    that everything that reads or writes it works as before. With one worker nothing happens.
    """
    if reduce.world()[1] == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # It warns of views that a module returns, for whoever adds to them in place; nobody does.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (reduce.world()[1],))
    trained = {parameter for parameter in transformer.parameters() if parameter.requires_grad}
    for module in (*_blocks(transformer), transformer):
        # said outright: by its default the outermost module would keep its weights gathered
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=trained)


def _blocks(transformer: Any) -> Iterator[nn.Module]:
    lists: Iterable[nn.ModuleList] = (getattr(transformer, name) for name in _BLOCKS)
    return (block for blocks in lists for block in blocks)


def _frozen(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and not module.weight.requires_grad


def _nf4_block(linear: nn.Module) -> int:
    return next((size for size in _NF4_BLOCKS if int(linear.in_features) % size == 0), 0)


def _to_int8(linear: nn.Module) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    # its other default would make float32 products of the whole process TF32
    quantize_(linear, Int8WeightOnlyConfig(version=2, set_inductor_config=False))


def _nf4(linear: nn.Linear, device: torch.device) -> nn.Module:
    from bitsandbytes.nn import Linear4bit, Params4bit

    sizes = (linear.in_features, linear.out_features, linear.bias is not None)
    block = _nf4_block(linear)
    made = Linear4bit(*sizes, compute_dtype=linear.weight.dtype, quant_type="nf4", device="meta")
    how = {"blocksize": block, "compress_statistics": True, "quant_type": "nf4"}
    made.weight = Params4bit(linear.weight.data, requires_grad=False, **how)
    made.bias = linear.bias
    placed: nn.Module = made.to(device)  # the move quantises
    return placed
