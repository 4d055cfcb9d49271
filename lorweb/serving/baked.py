"""A baked analogy as a model in MLflow's diffusers flavour: a plain LoRA, with the base it is for.

`mlflow.diffusers.load_model(URI).load_pipeline()` gives a stock pipeline that carries it, without lorweb.
"""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorweb.hub import is_hub_id
from lorweb.serving.address import Address
from lorweb.serving.artifacts import fixed
from lorweb.serving.tracking import experiment_id, open_client

if TYPE_CHECKING:
    from lorweb.kontext.metadata import ModelMetadata

CARRIED: Final = ("lineage_key", "git_commit", "dvc_lock_sha256", "params_sha256", "content_sha256")
NOT_STATED: Final = "not stated"
FACTS: Final = ("basis_sha256", "mix", "rank", "total_error")  # of a bake, shown as tags


@dataclass(frozen=True)
class Named:
    """A base as MLflow names it: a hub id with the commit that is at hand, or a folder (which has no commit)."""

    model: str
    commit: str | None


def log_baked(lora: Path, model: str, root: Path = Path(), register_as: str | None = None) -> str:
    """Log a LoRA that `lorweb bake` wrote from `model` (as `--model` takes it); returns the new model's URI.

    Its tags: base and base_revision, basis_sha256, mix, rank and error of the bake; every licence and the lineage that
    the registered `model` carries, or licence "not stated". With `register_as` it becomes a version of that name.

    Raises:
        FileNotFoundError: no such LoRA or model.
        ValueError: the LoRA is no bake, has ComfyUI's keys or is of another basis; no registry; an MLflow without this
            flavour.
    """
    from lorweb.commands import model_file, model_name
    from lorweb.data.manifest import file_sha256
    from lorweb.kontext.metadata import read_metadata

    bake = read_bake(lora)
    client = open_client(root, create=True)
    model = fixed(model_name(model), root)
    basis = model_file(model)
    if bake["basis_sha256"] != (found := file_sha256(basis)):
        raise ValueError(
            f"{lora} was baked from the basis {bake['basis_sha256']}, but {basis} is {found}; give the model it is of"
        )
    metadata = read_metadata(basis.parent)
    tags = {
        "base": metadata.base,
        "base_revision": metadata.base_revision or NOT_STATED,
        **{name: str(bake[name]) for name in FACTS},
        **_carried(client, model),
    }
    uri = _log(lora, named_base(metadata), tags, experiment_id(client, root))
    if register_as is not None:
        import mlflow

        mlflow.register_model(uri, register_as, tags=tags)
    return uri


def read_bake(lora: Path) -> dict[str, Any]:
    """What a baked file says of itself.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, not written by `lorweb bake`, or with keys that diffusers does not read.
    """
    from lorweb.basis.files import read_metadata
    from lorweb.config_errors import parsed_json

    text = read_metadata(lora).get("lorweb_bake")
    bake = None if text is None else parsed_json(text, f"{lora}: the metadata")
    if not isinstance(bake, dict) or not set(FACTS) <= set(bake):
        raise ValueError(f"{lora} is no baked analogy; write one with `lorweb bake A A2 B -o FILE`")
    if bake.get("format") != "diffusers":
        raise ValueError(f"{lora} has the keys of {bake.get('format')}; bake it again with --format diffusers")
    return bake


def named_base(metadata: "ModelMetadata") -> Named:
    """Where MLflow's flavour finds the base of a model. Asks no network: the commit is that of the hub's cache."""
    from lorweb.kontext.files import base_revision
    from lorweb.kontext.load import resolve

    if not is_hub_id(metadata.base) or Path(metadata.base).expanduser().is_dir():
        return Named(str(resolve(metadata.base).resolve()), None)
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(metadata.base, "model_index.json")
    if not isinstance(index, str):
        return Named(metadata.base, None)
    snapshot = Path(index).parent
    same = not metadata.base_revision or base_revision(snapshot) == metadata.base_revision
    return Named(metadata.base, snapshot.name if same else None)


def _carried(client: Any, model: str) -> dict[str, str]:
    """Licences and lineage of a registered model, which `model` names by its number."""
    found: dict[str, str] = {}
    address = Address.of(model)
    if address is not None:
        tags = address.version(client).tags
        found = {tag: text for tag, text in tags.items() if tag in CARRIED or "licence" in tag}
        found["source_model"] = model
    return found if any("licence" in tag for tag in found) else {**found, "licence": NOT_STATED}


def _log(lora: Path, base: Named, tags: dict[str, str], experiment: str) -> str:
    import mlflow
    from mlflow.models import Model

    with (
        contextlib.redirect_stdout(sys.stderr),  # MLflow prints a server's address of the run
        mlflow.start_run(experiment_id=experiment, run_name=f"bake: {lora.stem}", tags=tags, nested=True),
    ):
        logged = Model.log(
            artifact_path=None, name="lora", flavor=_Pinned(), flavor_name="diffusers", adapter_path=str(lora),
            base=base, tags=tags, metadata=tags,
        )  # fmt: skip
    return str(logged.model_uri)


class _Pinned:
    """`mlflow.diffusers` with our word on the base.

    Left to itself it asks the hub for the base's latest commit: a call that nobody asked for, and not the commit that
    the basis was trained on.
    """

    def save_model(self, path: str, mlflow_model: Any, base: Named, **given: Any) -> None:
        """What `Model.log` calls. Raises ValueError where MLflow has no such flavour."""
        try:
            from mlflow import diffusers as flavour
        except ImportError as error:
            raise ValueError("this MLflow has no diffusers flavour; install mlflow>=3.17") from error
        flavour.save_model(path=path, mlflow_model=mlflow_model, base_model="./unresolved", **given)
        conf = mlflow_model.flavors["diffusers"]
        conf["base_model"] = base.model
        if base.commit is not None:
            conf["base_model_revision"] = base.commit
        mlflow_model.save(str(Path(path) / "MLmodel"))
