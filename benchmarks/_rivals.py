"""The contestants: one or more linears that share their input, as ours, PEFT, the published way, folded and bare.

All of them hold the same frozen weights and, for the one query here, compute the same update.

Legend: B batch rows, S tokens, I in_features, O out_features, N LoRAs of rank r (R), K = N * r, H heads, D key width,
W = D / H, Q query width.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from lorweb.basis import BasisConfig, add_basis, basis_layers, router_of
from lorweb.basis.fold import bake
from lorweb.basis.inject import ROUTER
from lorweb.basis.layer import BasisLinear

PAPER = BasisConfig(
    n_loras=32, rank=4, key_dim=128, query_dim=2304, heads=1, activation="softmax", reduce="mean", projection="linear",
    query_mode="cat-aa'b",
)  # fmt: skip


class Shared(nn.Module):
    """`count` linears width -> width on one input, in the block list that `add_basis` looks for."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(count))

    def forward(self, x_BSI: Tensor) -> list[Tensor]:
        return [linear(x_BSI) for linear in self.transformer_blocks]


def einsum_in_order(x: Tensor, A_NIR: Tensor, B_NRO: Tensor, c_BN: Tensor) -> Tensor:
    """sum_n c_n B_n A_n x from left to right: what torch.einsum does where opt_einsum is not installed.

    The second step makes [B, S, N, O]: N times the layer's output.
    """
    s = "s" if x.ndim == 3 else ""
    with torch.backends.opt_einsum.flags(enabled=False):
        return torch.einsum(f"b{s}i,nir,nro,bn->b{s}o", x, A_NIR, B_NRO, c_BN)


def einsum_best_path(x: Tensor, A_NIR: Tensor, B_NRO: Tensor, c_BN: Tensor) -> Tensor:
    """The same contraction in the order of fewest operations: what torch.einsum does where opt_einsum is installed.

    The coefficients meet the smaller of A x and B, so that no intermediate is larger than these.
    """
    s = "s" if x.ndim == 3 else ""
    h = torch.einsum(f"b{s}i,nir->b{s}nr", x, A_NIR)
    if x.shape[:-1].numel() <= len(x) * B_NRO.shape[-1]:
        h = torch.einsum(f"b{s}nr,bn->b{s}nr", h, c_BN)
        return torch.einsum(f"b{s}nr,nro->b{s}o", h, B_NRO)
    return torch.einsum(f"b{s}nr,bnro->b{s}o", h, torch.einsum("nro,bn->bnro", B_NRO, c_BN))


Contract = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Published(nn.Module):
    """A linear with its basis in the published order of operations, all of it in float32 in every call.

    Projection of the query, split into heads, similarity, softmax, mean over heads, contraction of x, A, B and c, sum.
    With `coefficients_BN` set, they are given and the first five steps are left out.
    """

    def __init__(self, ours: BasisLinear, keys_ND: Tensor, projection_DQ: Tensor, contract: Contract) -> None:
        super().__init__()
        self.base, self.contract, self.heads = ours.base, contract, PAPER.heads
        N, rank = len(keys_ND), ours.rank
        self.A_NIR = nn.Parameter(ours.A.detach().unflatten(0, (N, rank)).transpose(1, 2).contiguous())
        self.B_NRO = nn.Parameter(ours.B.detach().T.contiguous().unflatten(0, (N, rank)))
        self.keys_ND = nn.Parameter(keys_ND.detach().clone())
        self.projection_DQ = nn.Parameter(projection_DQ.detach().clone())
        self.query_BQ: Tensor | None = None
        self.coefficients_BN: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        c_BN = self._mix() if self.coefficients_BN is None else self.coefficients_BN
        update = self.contract(x.float(), self.A_NIR, self.B_NRO, c_BN)
        return self.base(x) + update.to(x.dtype)

    def _mix(self) -> Tensor:
        assert self.query_BQ is not None, "set query_BQ first"
        q_BHW = nn.functional.linear(self.query_BQ, self.projection_DQ).unflatten(-1, (self.heads, -1))
        keys_NHW = self.keys_ND.unflatten(-1, (self.heads, -1))
        similarity_BHN = torch.einsum("bhw,nhw->bhn", q_BHW, keys_NHW) * keys_NHW.shape[-1] ** -0.5
        return similarity_BHN.softmax(-1).mean(1)


@dataclass(frozen=True)
class Field:
    """Models of one family, equal in weights and, for `query_BQ`, in what they compute."""

    bare: nn.Module  # the frozen base alone: without the update
    ours: nn.Module
    peft: nn.Module  # a plain LoRA of rank K on every layer, not merged
    in_order: nn.Module  # the published way, contracted from left to right
    best_path: nn.Module  # the published way, contracted in the order of fewest operations
    query_BQ: Tensor


def field(bare: nn.Module, config: BasisConfig) -> Field:
    """Every contestant from one stock model with blocks; the bare one is frozen in place. B is random, not zero."""
    bare.requires_grad_(False)
    ours = copy.deepcopy(bare)
    add_basis(ours, config, seed=0)
    with torch.no_grad():
        for layer in basis_layers(ours).values():
            layer.B.normal_()
    query_BQ = torch.randn(1, config.query_dim or 0)
    return Field(
        bare=bare,
        ours=ours,
        peft=as_peft(bare, ours, query_BQ),
        in_order=as_published(ours, einsum_in_order),
        best_path=as_published(ours, einsum_best_path),
        query_BQ=query_BQ,
    )


def shared_input(width: int, count: int, config: BasisConfig) -> Field:
    """The contestants for `count` linears width -> width on one input."""
    return field(Shared(width, count), config.model_copy(update={"targets": ("transformer_blocks.*",)}))


def as_peft(bare: nn.Module, ours: nn.Module, query_BQ: Tensor) -> nn.Module:
    """A stock PEFT LoRA of rank N * r on the same layers, with the weights that this query gives."""
    model, rank = copy.deepcopy(bare), router_of(ours).config.total_rank
    names = list(basis_layers(ours))
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=names), model)
    weights = {key.removeprefix("transformer."): value for key, value in bake(ours, query_BQ).state_dict.items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights.pop(name.replace(".default", "")))
    assert not weights, f"PEFT has no place for {list(weights)[:3]}"
    return model


def as_published(ours: nn.Module, contract: Contract) -> nn.Module:
    """The stock model with every targeted linear replaced by `Published`; call `give_query` or `give_mix` next."""
    model, router = copy.deepcopy(ours), router_of(ours)
    for index, (name, layer) in enumerate(basis_layers(model).items()):
        projection_DQ = router.projection_of(index)
        assert projection_DQ is not None, "the published layer has a projection of its own"
        published = Published(layer, router.keys[index], projection_DQ, contract)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, published)
    del model._modules[ROUTER]
    return model


def give_query(model: nn.Module, query_BQ: Tensor) -> None:
    """Published layers ask with this query in every call."""
    for layer in _published(model):
        layer.query_BQ, layer.coefficients_BN = query_BQ, None


def give_mix(model: nn.Module, e_BLN: Tensor) -> None:
    """Published layers take these coefficients, so that only their contraction is timed."""
    for layer, c_BN in zip(_published(model), e_BLN.unbind(1), strict=True):
        layer.coefficients_BN = c_BN.contiguous()


def _published(model: nn.Module) -> list[Published]:
    return [module for module in model.modules() if isinstance(module, Published)]
