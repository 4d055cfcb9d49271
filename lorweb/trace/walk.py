"""The walk itself: picture or file -> model -> lineage -> training data -> source images and their licences."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorweb.serving.address import SCHEME
from lorweb.trace.chain import Chain
from lorweb.trace.models import FoundModel, Models
from lorweb.trace.records import Records
from lorweb.trace.things import Thing, thing
from lorweb.trace.training import source_list, summarise_pairs, trained_pairs

_MADE_WITH: Final = ("image", "mix", "lora")


@dataclass(frozen=True)
class Places:
    """Where to look: a project's root with models/ and its registry, its data, the registered model's name, and the
    model's folder where a person knows it.
    """

    root: Path
    data: Path
    name: str
    model: str | None


def trace(asked: str, places: Places, verify: bool) -> dict[str, Any]:
    """Everything that is known of where `asked` came from, for JSON.

    `kind`, `facts` (what it says of itself) or `record`, `model`, `lineage`, `data` (links and training), `sources`,
    `missing` (sentences on what keeps it from the source images) and `notes` (on what else could not be looked at).
    With `verify` every file of the data is read and compared with its manifest.

    Raises:
        FileNotFoundError, ValueError: nothing of that name, or a file that says nothing of itself.
    """
    found = thing(asked, places.root, places.name)
    chain = Chain(places.root / places.data)
    if found.kind == "record":
        return _record(found, chain, verify)
    models = Models(places.root, places.name)
    model = _model(found, models, places.model)
    told: dict[str, Any] = {
        "asked": asked,
        "kind": found.kind,
        "facts": found.facts,
        "model": model.tree() if model else None,
        "lineage": model.lineage if model else {},
        "data": None,
        "sources": None,
        "missing": [],
        "notes": models.notes,
    }
    if model is None:
        told["missing"].append(
            f"no model with the basis {found.facts.get('basis_sha256', 'of an unknown hash')} below "
            f"{places.root / 'models'} or in the registry; give its folder with --model"
        )
        return told
    _check_content(found, model, told["notes"])
    _training(model, chain, told, verify)
    return told


def _model(found: Thing, models: Models, given: str | None) -> FoundModel | None:
    if found.kind in _MADE_WITH:
        hints = [given or "", *(str(found.facts.get(key, "")) for key in ("model_version", "model"))]
        basis, content = (str(found.facts.get(key, "")) for key in ("basis_sha256", "content_sha256"))
        return models.by_hash(basis, content, hints)
    if found.place.startswith(SCHEME):
        return models.registered(found.place)
    return models.at(Path(found.place))


def _check_content(found: Thing, model: FoundModel, notes: list[str]) -> None:
    said = found.facts.get("content_sha256")
    if said and said != model.content_sha256:
        notes.append(
            f"{model.folder} has the same basis but other metadata ({model.content_sha256}) than the model it was made "
            f"with ({said})"
        )


def _training(model: FoundModel, chain: Chain, told: dict[str, Any], verify: bool) -> None:
    """Fill `data`, `sources` and `missing`: as far as the links hold, and no further."""
    missing: list[str] = told["missing"]
    trained_on = model.metadata.extra.get("data") if model.metadata else None
    if not isinstance(trained_on, dict) or "analogies" not in trained_on:
        missing.append(f"{model.folder} does not say what data it was trained on")
        return
    reached = chain.follow("model", "analogies", str(trained_on["analogies"]))
    if "encoded" in trained_on and chain.follow("model", "encoded", str(trained_on["encoded"])):
        chain.down("encoded")
    whole = reached and chain.down("analogies")
    told["data"] = {"links": [link.tree() for link in chain.links], "training": None}
    missing += chain.broken()
    told["notes"] += chain.broken(aside=True)
    if not whole and "git_commit" in model.lineage:
        missing.append(
            f"its data are those of commit {model.lineage['git_commit']}; check that out and run `dvc checkout` or "
            "`dvc pull`"
        )
    wrong = chain.verify() if verify else []
    missing += wrong
    if not reached or wrong:
        return
    trained = trained_pairs(chain.data / "analogies")
    told["data"]["training"] = {
        "pairs": trained.pairs,
        "derived_pairs": trained.derived,
        "tasks": len(trained.tasks),
        "subjects": len(trained.subjects),
    }
    if not chain.holds("analogies", "pairs"):
        return
    checks = chain.here("pairs")[1]["params"].get("checks", [])
    summary = summarise_pairs(chain.data, trained.used, checks)
    told["data"]["training"] |= summary.told
    if summary.absent:
        missing.append(f"{summary.absent} pairs that it was trained on are not in {chain.data / 'pairs'}")
    if not (chain.holds("pairs", "candidates") and chain.holds("candidates", "sources")):
        return
    sources = source_list(chain.data, summary.per_source)
    absent = sources.pop("absent")
    if absent:
        missing.append(f"{len(absent)} sources are not in {chain.data / 'sources'}, the first is {absent[0]}")
    told["sources"] = sources


def _record(found: Thing, chain: Chain, verify: bool) -> dict[str, Any]:
    record = Records(chain).find(found.place)
    if record is None:
        raise ValueError(
            f"no record {found.place} in {chain.data}: neither a source, a pair nor an analogy, kept or refused. Give "
            "its id, a PNG, a model, or the folder of other data with --data"
        )
    kind = record.pop("kind")
    return {
        "asked": found.place,
        "kind": kind,
        "record": record,
        "data": {"links": [link.tree() for link in chain.links]},
        "missing": [*chain.broken(), *chain.broken(aside=True), *(chain.verify() if verify else [])],
        "notes": [],
    }
