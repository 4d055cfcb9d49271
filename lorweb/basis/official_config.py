"""config.yaml of the published format: the settings that its weights file does not hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from lorweb.basis.config import BLOCK_LINEARS, BasisConfig

OURS: Final = "lorweb"  # top-level section of config.yaml that only we read
REQUIRED: Final = (
    "lora_heads",
    "lora_softmax",
    "mixing_coeffs_type",
    "query_projection_type",
    "query_mode",
    "external_query",
)


def read_yaml(path: Path, sizes: Mapping[str, int]) -> BasisConfig:
    """The config that a config.yaml and the tensor sizes {n_loras, rank, key_dim, query_dim} make together.

    Sizes that the YAML states must agree with the tensors. `linear_alpha` is ignored: the scale is always 1.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, no network section, a missing setting, or sizes that disagree.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no config at {path}; the published weights are useless without their config.yaml")
    network = _network(path)
    kwargs = network.get("network_kwargs") or {}
    internal = not kwargs.get("external_query", True)
    required = (*REQUIRED, "pooling_type") if internal else REQUIRED
    absent = [key for key in required if key not in kwargs]
    if absent:
        raise ValueError(
            f"{path}: network_kwargs lacks {', '.join(absent)}, which the weights do not hold; "
            "add them, or pass a BasisConfig"
        )
    for key in ("lora_softmax", "external_query"):
        if not isinstance(kwargs[key], bool):
            raise ValueError(f"{path}: {key} is {kwargs[key]!r}; it must be true or false")
    stated = {"n_loras": kwargs.get("loras_num"), "rank": network.get("linear"), "key_dim": kwargs.get("lora_keys_dim")}
    for field, value in stated.items():
        if value is not None and value != sizes[field]:
            raise ValueError(
                f"{path} says {field} = {value}, the tensors say {sizes[field]}; these two files do not belong together"
            )
    return BasisConfig(
        n_loras=sizes["n_loras"],
        rank=sizes["rank"],
        key_dim=sizes["key_dim"],
        query_dim=None if internal else sizes.get("query_dim", sizes["key_dim"]),
        heads=kwargs["lora_heads"],
        activation="softmax" if kwargs["lora_softmax"] else "tanh",
        reduce=kwargs["mixing_coeffs_type"],
        projection=kwargs["query_projection_type"],
        query_mode=kwargs["query_mode"],
        query_source="internal" if internal else "external",
        pooling=kwargs["pooling_type"] if internal else None,  # it has no effect on external queries
        targets=tuple(_ours(path).get("targets", BLOCK_LINEARS)),
    )


def yaml_tree(config: BasisConfig, encoder: str | None, facts: Mapping[str, str] | None) -> dict[str, Any]:
    """The tree that `read_yaml` reads; `encoder` names the image encoder where it is known.

    A section of our own keeps what the format has no place for: targets other than the default ones, and facts.
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
    ours: dict[str, Any] = {} if config.targets == BLOCK_LINEARS else {"targets": list(config.targets)}
    ours |= {} if facts is None else {"facts": dict(facts)}
    return {"config": {"process": [{"network": network}]}} | ({OURS: ours} if ours else {})


def read_facts(path: Path) -> dict[str, str] | None:
    """The facts that `yaml_tree` was given; None for a file that another program wrote."""
    facts = _ours(path).get("facts")
    return None if facts is None else {str(key): str(value) for key, value in facts.items()}


def _ours(path: Path) -> dict[str, Any]:
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    found: dict[str, Any] = tree.get(OURS) or {}
    return found


def _network(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        network: dict[str, Any] = tree["config"]["process"][0]["network"]
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{path} has no config.process[0].network; is it the config.yaml beside the published weights?"
        ) from error
    if not isinstance(network, dict):
        raise ValueError(f"{path}: config.process[0].network is {network!r}, not a mapping")
    return network
