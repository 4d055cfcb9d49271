"""Training where nodes share nothing but a store: what the driver puts there for the workers, and they for the driver.

blobs/...                                          data/encoded, data/analogies, the base, by content
work/train/<fingerprint>/<variant>/step-.../...    checkpoints
                        .../weights, health, sheets
                        .../history.json           written last: the variant is finished
work/trainings/<fingerprint>                       when it had its newest checkpoint
"""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from lorweb.kontext.load import resolve
from lorweb.storage.blobs import Inventory, shelve
from lorweb.storage.fetched import use_options
from lorweb.storage.places import bind, local
from lorweb.storage.store import Store
from lorweb.training.depot import Depot
from lorweb.training.loop import History
from pipelines._train_plan import WEIGHTS, TrainPlan, depot_key, variant_folder

PARTS: Final = (WEIGHTS, "health", "sheets")
_HISTORY: Final = "history.json"
_TRAININGS: Final = "work/trainings"
_BASES: Final = "bases"  # in the mirrors; the driver has its base elsewhere


def put_data(plan: TrainPlan) -> TrainPlan:
    """The plan after all that its workers read was put into its store; unchanged where there is none.

    Raises:
        StorageError: the store does not take it.
    """
    if plan.store is None:
        return plan
    for path in (plan.encoded, plan.analogies):
        local(Path(path))  # in a driver that reads a mirror itself
    files = dict(shelve(plan.store, Path(), [plan.encoded, plan.analogies]).files)
    base_folder = ""
    if plan.base != "tiny" and Path(plan.base).expanduser().is_dir():
        folder = resolve(plan.base).absolute()
        base_folder = f"{_BASES}/{json.loads(plan.identity['base'])}"
        found = shelve(plan.store, folder, [""]).files
        files |= {f"{base_folder}/{name}": what for name, what in found.items()}
    return replace(plan, inventory=Inventory(files).to_json(), base_folder=base_folder)


def come_to_data(plan: TrainPlan) -> None:
    """Let this worker work in a mirror of the project, in which all that it reads lies; nothing without a store.

    Raises:
        OSError: the store does not give it, or the disk does not take it.
    """
    if plan.store is not None:
        bind(plan.store, Inventory.of_json(plan.inventory))
        use_options(plan.store)  # a base by its URI is fetched as everything else
        for path in filter(None, (plan.encoded, plan.analogies, plan.base_folder)):
            local(Path(path))


def depot_of(plan: TrainPlan, name: str, training: str = "") -> Depot | None:
    """Of a variant of the plan, or of another training, given by its fingerprint; None where there is no store."""
    if plan.store is None:
        return None
    key = depot_key(plan, name)
    if training:
        key = depot_key(replace(plan, work=training), name)
    return Depot(plan.store, key)


def keep_informed(plan: TrainPlan, name: str, history: History) -> None:
    """After a checkpoint: the sheets so far lie in the store too, and `last_trained` finds this training.

    Raises:
        StorageError: the store does not take it.
    """
    depot = depot_of(plan, name)
    if depot is not None:
        depot.send(variant_folder(plan, name), "sheets", again=False)
        said = json.dumps({"at": time.time(), "variant": name, "step": history.step})
        depot.store.write(f"{_TRAININGS}/{Path(plan.work).name}", said.encode())


def last_trained(store: Store, besides: str) -> str | None:
    """The fingerprint of the training, other than `besides`, that had the newest checkpoint."""
    found = [name for name in store.names(_TRAININGS) if name != besides]
    return max(found, key=lambda name: json.loads(store.read(f"{_TRAININGS}/{name}"))["at"], default=None)


def hand_in(plan: TrainPlan, name: str, history: History) -> None:
    """Put what a finished variant has left in this worker's folder into the store. Raises StorageError."""
    depot = depot_of(plan, name)
    if depot is not None:
        for part in PARTS:
            depot.send(variant_folder(plan, name), part, again=part != "sheets")
        depot.store.write(f"{depot.prefix}/{_HISTORY}", json.dumps(asdict(history)).encode())


def is_finished(plan: TrainPlan, name: str, training: str) -> bool:
    """Whether a variant of some training of the store was handed in."""
    depot = depot_of(plan, name, training)
    return depot is not None and depot.store.size(f"{depot.prefix}/{_HISTORY}") is not None


def take_in(plan: TrainPlan) -> None:
    """Let the driver's folder hold what was handed in of every variant; nothing without a store.

    Raises:
        StorageError: the store does not give it.
    """
    for name in plan.variants:
        depot = depot_of(plan, name)
        for part in PARTS if depot else ():
            assert depot is not None
            depot.receive(part, variant_folder(plan, name))


def handed_in_history(plan: TrainPlan, name: str) -> History:
    """What a finished variant has measured. Raises FileNotFoundError: it is not finished."""
    depot = depot_of(plan, name)
    assert depot is not None
    found: dict[str, Any] = json.loads(depot.store.read(f"{depot.prefix}/{_HISTORY}"))
    return History(**found)
