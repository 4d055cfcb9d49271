"""config.yaml of the published format: the settings that its weights file does not hold."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from lorweb.basis.config import BLOCK_LINEARS, BasisConfig
from lorweb.basis.yaml_tree import read_tree
from lorweb.config_errors import shortened, validated

OURS: Final = "lorweb"  # top-level section of config.yaml that only we read
REQUIRED: Final = (
    "lora_heads",
    "lora_softmax",
    "mixing_coeffs_type",
    "query_projection_type",
    "query_mode",
    "external_query",
)


class _Network(BaseModel):
    """`network_kwargs`. Other programs put further settings there, which `unread_settings` lists."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    loras_num: int | None = None
    lora_keys_dim: int | None = None
    lora_heads: int
    lora_softmax: bool
    mixing_coeffs_type: Literal["mean", "sum"]
    external_query: bool
    pooling_type: Literal["avg", "max"] | None = None
    query_projection_type: Literal["linear", "none"]
    external_query_model: str | None = None
    query_mode: str


class _Ours(BaseModel):
    """Our own section: what the format has no place for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[str, ...] = Field(BLOCK_LINEARS, min_length=1)
    projection: Literal["shared"] | None = None  # the weights repeat it for each layer
    facts: dict[str, str] | None = None


def read_yaml(path: Path, sizes: Mapping[str, int]) -> BasisConfig:
    """The config that a config.yaml and the tensor sizes {n_loras, rank, key_dim, query_dim} make together.

    Sizes that the YAML states must agree with the tensors. `linear_alpha` is ignored: the scale is always 1.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not UTF-8 or not YAML, no network section, a setting that is missing or wrong, or sizes that
            disagree.
    """
    return config_of(read_tree(path), str(path), sizes)


def config_of(tree: Mapping[str, Any], path: str, sizes: Mapping[str, int]) -> BasisConfig:
    """As `read_yaml`, of a tree; `path` is what messages call it."""
    network, kwargs, ours = _section(tree, path), _kwargs(tree, path), _ours(tree, path)
    stated = {"n_loras": kwargs.loras_num, "rank": network.get("linear"), "key_dim": kwargs.lora_keys_dim}
    for field, value in stated.items():
        if value is not None and value != sizes[field]:
            raise ValueError(
                f"{path} says {field} = {value!r}, the tensors say {sizes[field]}; these two files do not belong "
                "together"
            )
    internal = not kwargs.external_query
    settings = {
        **{name: sizes[name] for name in ("n_loras", "rank", "key_dim")},
        "query_dim": None if internal else sizes.get("query_dim", sizes["key_dim"]),
        "heads": kwargs.lora_heads,
        "activation": "softmax" if kwargs.lora_softmax else "tanh",
        "reduce": kwargs.mixing_coeffs_type,
        "projection": ours.projection or kwargs.query_projection_type,
        "query_mode": kwargs.query_mode,
        "query_source": "internal" if internal else "external",
        "pooling": kwargs.pooling_type if internal else None,  # it has no effect on external queries
        "targets": ours.targets,
    }
    return validated(BasisConfig, settings, f"{path}: ")


def yaml_tree(config: BasisConfig, encoder: str | None, facts: Mapping[str, str] | None) -> dict[str, Any]:
    """The tree that `read_yaml` reads; `encoder` names the image encoder where it is known.

    A section of our own keeps what the format has no place for: see `our_section`.
    """
    kwargs: dict[str, Any] = {
        "loras_num": config.n_loras,
        "lora_keys_dim": config.key_dim,
        "lora_heads": config.heads,
        "lora_softmax": config.activation == "softmax",
        "mixing_coeffs_type": config.reduce,
        "external_query": not config.internal,
        "pooling_type": config.pooling or "avg",
        "query_projection_type": "none" if config.projection == "none" else "linear",
        "query_mode": config.query_mode,
    }
    if encoder is not None:
        kwargs["external_query_model"] = encoder
    network = {"type": "lora", "linear": config.rank, "linear_alpha": config.rank, "network_kwargs": kwargs}
    return {"config": {"process": [{"network": network}]}} | our_section(config, facts)


def our_section(config: BasisConfig, facts: Mapping[str, str] | None) -> dict[str, Any]:
    """{} or {OURS: ...}: targets other than the default ones, a shared projection, and facts."""
    ours: dict[str, Any] = {} if config.targets == BLOCK_LINEARS else {"targets": list(config.targets)}
    ours |= {"projection": "shared"} if config.projection == "shared" else {}
    ours |= {} if facts is None else {"facts": dict(facts)}
    return {OURS: ours} if ours else {}


def read_facts(path: Path) -> dict[str, str] | None:
    """The facts that `yaml_tree` was given; None for a file that another program wrote. Raises as `read_yaml` does."""
    return _ours(read_tree(path), str(path)).facts


def unread_settings(path: Path) -> list[str]:
    """Names in `network_kwargs` that mean nothing to us, and that conversion can only carry along."""
    return sorted(_kwargs(read_tree(path), str(path)).model_extra or {})


def named_encoder(path: Path) -> str | None:
    """`external_query_model`, or None where the file does not name the encoder."""
    return _kwargs(read_tree(path), str(path)).external_query_model


def named_base(path: Path) -> str | None:
    """`model.name_or_path` of the training, or None where the file does not name the base."""
    process = read_tree(path)["config"]["process"][0]
    model = process.get("model") if isinstance(process, dict) else None
    name = model.get("name_or_path") if isinstance(model, dict) else None
    return name if isinstance(name, str) and name else None


def _section(tree: Mapping[str, Any], path: str) -> dict[str, Any]:
    try:
        network: Any = tree["config"]["process"][0]["network"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{path} has no config.process[0].network; is it the config.yaml beside the published weights?"
        ) from error
    if not isinstance(network, dict):
        raise ValueError(f"{path}: config.process[0].network is {shortened(network)}, not a mapping")
    return network


def _kwargs(tree: Mapping[str, Any], path: str) -> _Network:
    kwargs = _section(tree, path).get("network_kwargs") or {}
    if not isinstance(kwargs, dict):
        raise ValueError(f"{path}: network_kwargs is {shortened(kwargs)}, not a mapping")
    internal = not kwargs.get("external_query", True)
    required = (*REQUIRED, "pooling_type") if internal else REQUIRED
    absent = [key for key in required if kwargs.get(key) is None]
    if absent:
        raise ValueError(
            f"{path}: network_kwargs lacks {', '.join(absent)}, which the weights do not hold; "
            "add them, or pass a BasisConfig"
        )
    known = list(_Network.model_fields)
    for key in sorted(str(key) for key in set(kwargs) - set(known)):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
        if near:
            raise ValueError(f"{path}: unknown key '{key}' in network_kwargs; did you mean '{near[0]}'?")
    return validated(_Network, {str(key): value for key, value in kwargs.items()}, f"{path}: network_kwargs.")


def _ours(tree: Mapping[str, Any], path: str) -> _Ours:
    return validated(_Ours, tree.get(OURS, {}), f"{path}: {OURS}.")
