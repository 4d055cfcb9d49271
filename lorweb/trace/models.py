"""The model behind a hash: in the folders of a project, or in the registry, with the lineage that its version has."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorweb.data.manifest import file_sha256
from lorweb.kontext.metadata import BASIS_FILE, METADATA_FILE, ModelMetadata, read_metadata
from lorweb.provenance import local_lineage, model_content
from lorweb.serving.address import SCHEME, Address

if TYPE_CHECKING:
    from lorweb.serving.registry import Registry, Version

LINEAGE: Final = (  # tags of a version that say where it came from; texts, empty where unknown
    "lineage_key", "git_commit", "git_dirty", "dvc_lock_sha256", "dvc_outs", "params_sha256", "base", "base_revision",
    "encoder", "encoder_revision", "ray_job_id", "ray_submission_id", "mlflow_run_id",
    "licences", "base_licence",
)  # fmt: skip
_TABLES: Final = ("dvc_outs", "licences")  # tags that hold JSON objects
_KEPT: Final = ("data/", "models/")
_AROUND: Final = ("base", "base_revision", "encoder", "encoder_revision", "quadrant")
_TOLD: Final = ("variant", "steps", "seed")  # of the training, where its metadata say it


@dataclass
class FoundModel:
    """A model that is here; `version` {"uri", "aliases"} and `lineage` where they are known."""

    folder: Path
    basis_sha256: str
    content_sha256: str
    metadata: ModelMetadata | None
    version: dict[str, Any] | None = None
    lineage: dict[str, Any] = field(default_factory=dict)

    def tree(self) -> dict[str, Any]:
        """For JSON."""
        extra = self.metadata.extra if self.metadata else {}
        told: dict[str, Any] = {name: extra[name] for name in _TOLD if name in extra}
        around = {name: getattr(self.metadata, name) for name in _AROUND} if self.metadata else {}
        return {
            "folder": str(self.folder),
            "basis_sha256": self.basis_sha256,
            "content_sha256": self.content_sha256,
            **around,
            **told,
            "version": self.version,
        }


class Models:
    """Models of a project: folders below models/, and the versions of one registered model."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.notes: list[str] = []
        self._registry: Registry | None = None
        self._asked = False

    def by_hash(self, basis: str, content: str, hints: list[str]) -> FoundModel | None:
        """The model whose basis file has this sha256: the version that `hints` name, a folder that they name or one
        below models/, then the registry; of several with this basis the one of this content.

        Of a registry only versions of that `content` are fetched, where it is known and one has it. Where several
        versions fit and nothing says which it was, a note names them all, and the newest is taken.
        """
        versions = self._versions()
        told = [version for version in versions if str(Address(self.name, number=version.number)) in hints]
        for version, folder in self._fitting(told, basis):
            return self.at(folder, version)
        folders = [folder for folder in self._folders(hints) if file_sha256(folder / BASIS_FILE) == basis]
        exact = [folder for folder in folders if content and model_content(folder) == content]
        if exact:
            return self.at(exact[0])
        named = [version for version in versions if content and version.content == content]
        fitting = [] if folders and content and not named else self._fitting(named or versions, basis)
        if folders and not named and len(fitting) < 2:
            return self.at(folders[0])
        if len(fitting) > 1:
            numbers = ", ".join(str(version.number) for version, _ in fitting)
            self.notes.append(
                f"versions {numbers} of {self.name} have this basis, and nothing says which of them it was; "
                f"what follows is of version {fitting[-1][0].number}"
            )
        return self.at(fitting[-1][1], fitting[-1][0]) if fitting else None

    def _fitting(self, versions: "Iterable[Version]", basis: str) -> "list[tuple[Version, Path]]":
        """Those whose basis file has this sha256, with their folders."""
        found = [(version, self._folder_of(version)) for version in versions]
        return [(v, folder) for v, folder in found if folder is not None and file_sha256(folder / BASIS_FILE) == basis]

    def at(self, folder: Path, version: "Version | None" = None) -> FoundModel:
        """A model folder, with its version where the registry has the same bytes.

        Raises:
            FileNotFoundError: no basis.safetensors there.
        """
        basis = folder / BASIS_FILE
        if not basis.is_file():
            raise FileNotFoundError(f"no {BASIS_FILE} in {folder}; give a model folder")
        content = model_content(folder)
        found = FoundModel(folder, file_sha256(basis), content, self._metadata(folder))
        version = version or next((v for v in self._versions() if content and v.content == content), None)
        if version is not None:
            tags = {**version.tags, "mlflow_run_id": version.run_id}
            found.version = {"uri": str(Address(self.name, number=version.number)), "aliases": list(version.aliases)}
        else:
            tags = local_lineage(folder, content)
        found.lineage = lineage_of(tags)
        return found

    def registered(self, uri: str) -> FoundModel:
        """A version by URI, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

        Raises:
            ValueError: no registry, or no such model, alias or version.
        """
        from lorweb.serving.artifacts import fixed, resolve

        uri = fixed(uri, self.root)
        address = Address.of(uri)
        self.name = address.name if address else self.name
        folder = resolve(uri, self.root)
        return self.at(folder, next((v for v in self._versions() if address and v.number == address.number), None))

    def _folders(self, hints: list[str]) -> Iterator[Path]:
        for hint in hints:
            path = self.root / hint
            folder = path if path.is_dir() else path.parent
            if hint and not hint.startswith(SCHEME) and (folder / BASIS_FILE).is_file():
                yield folder
        yield from sorted(path.parent for path in (self.root / "models").rglob(BASIS_FILE))

    def _versions(self) -> "list[Version]":
        registry = self._open()
        return registry.versions() if registry else []

    def _folder_of(self, version: "Version") -> Path | None:
        registry = self._open()
        assert registry is not None
        try:
            return registry.folder(version)
        except (ValueError, OSError) as error:
            self.notes.append(f"version {version.number} of {self.name} cannot be looked at ({error})")
            return None

    def _open(self) -> "Registry | None":
        """The registry, asked for once: MLflow takes seconds to load, and a server that is down seconds to answer."""
        if not self._asked:
            self._asked = True
            from lorweb.serving.registry import Registry

            try:
                self._registry = Registry(self.name, self.root)
            except ValueError as error:
                self.notes.append(f"no registry was asked: {str(error).split(';', maxsplit=1)[0]}")
        return self._registry

    def _metadata(self, folder: Path) -> ModelMetadata | None:
        try:
            return read_metadata(folder)
        except (FileNotFoundError, ValueError) as error:
            self.notes.append(f"{folder / METADATA_FILE} says nothing ({error})")
            return None


def lineage_of(tags: Mapping[str, str]) -> dict[str, Any]:
    """The lineage among the tags of a version; what nobody knew is left out.

    DVC's outs are {path: md5}, the licences of the training pairs as they were counted then {licence: pairs}.
    """
    found: dict[str, Any] = {name: tags[name] for name in LINEAGE if tags.get(name)}
    for name in _TABLES:
        try:
            table = json.loads(found.get(name, "{}"))
        except ValueError:
            continue  # stays the text it is
        if name in found and isinstance(table, dict):
            found[name] = table
    if isinstance(found.get("dvc_outs"), dict):
        found["dvc_outs"] = {path: md5 for path, md5 in found["dvc_outs"].items() if path.startswith(_KEPT)}
    return found
