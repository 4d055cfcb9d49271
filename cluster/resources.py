"""What a profile asks of a cluster: cores, GPUs, memory, disk and hours, from its pools and from `lorweb plan`.

One stage runs at a time, and in it one pool after the other, so the largest counts. Nothing is loaded or fetched.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cluster.errand import deps, outs, stage_names
from lorweb.config import Params
from lorweb.plan.report import Given, Plan, make_plan

GIB: Final = 2**30
GPU_OF_TIME: Final = "h100"  # whose speed the time limit is counted for
UTILISATION: Final = 0.3  # share of its peak: what `lorweb plan` takes by default
CPU_POD: Final = 8  # cores of one pod without GPUs
FEEDING: Final = 2  # cores of a pod for tasks that read and write beside its actors; without, Ray Data waits for ever
ACTOR: Final = 2 * GIB  # host memory of an actor without a GPU; one that scores 32 pairs of 512 px came to 1.3 GiB
PROCESSES: Final = 4 * GIB  # host memory of Ray's own processes and of reading and writing
OBJECT_STORE: Final = 0.3  # share of a pod's memory that Ray keeps for objects
SET_ASIDE: Final = 1.5e9  # bytes of a GPU that CUDA and its allocator take beside the plan's peak
PIXEL: Final = 3  # bytes; PNG takes about half, and candidates and pairs both keep the pictures
SPARE: Final = 8 * GIB  # of the head's disk: Ray's logs and packages, reports, metrics, the list of analogies
DATA_HOURS: Final = 48  # granted to the stages that the plan does not time
SLACK: Final = 2  # factor on the plan's hours


@dataclass(frozen=True)
class Group:
    """Pods of one kind: at most `pods` of them, each with so many cores, GPUs and GiB."""

    pods: int
    cpus: int
    gpus: int
    memory_gib: int
    disk_gib: int


@dataclass(frozen=True)
class Needs:
    """Groups of pods, `gpu` None where nothing runs on one; MiB that a GPU must have; hours until a run is late."""

    head: Group
    cpu: Group
    gpu: Group | None
    gpu_mib: int
    hours: int


def needs(params: Params, gpus_per_pod: int) -> Needs:
    """Read off the parameters what each group of pods must have.

    Raises:
        ValueError: gpus_per_pod is below 1.
        FileNotFoundError: the base is a folder that is not here.
    """
    if gpus_per_pod < 1:
        raise ValueError(f"gpus_per_pod is {gpus_per_pod}; a pod of the GPU group has at least 1")
    given = Given(GPU_OF_TIME if params.train.gpus_per_worker else "cpu", UTILISATION, None, None)
    plan = make_plan(params.encode.base, params, given)
    pools = [*_pools(params.model_dump(mode="json")), _trainers(params)]
    disk = _disk(params, plan)
    on_gpus = [pool for pool in pools if pool["gpus"]]
    return Needs(
        head=Group(1, 4, 0, _gib(PROCESSES + plan.host["encoded data"]), head_disk(params, plan)),
        cpu=_cpu_group([pool for pool in pools if not pool["gpus"]], params, plan, disk),
        gpu=_gpu_group(on_gpus, gpus_per_pod, plan, disk) if on_gpus else None,
        gpu_mib=math.ceil((plan.memory.peak + SET_ASIDE) / 2**20) if on_gpus else 0,
        hours=math.ceil(SLACK * plan.hours["all variants"]) + DATA_HOURS,
    )


def _pools(section: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every `pool` below a section: those of stages, editors, scorers, and language models."""
    for key, value in section.items():
        for below in value if isinstance(value, list) else [value]:
            if isinstance(below, Mapping):
                if key == "pool":
                    yield dict(below)
                else:
                    yield from _pools(below)


def _trainers(params: Params) -> dict[str, Any]:
    """Workers of training as a pool; Ray Train gives each one core."""
    return {"actors": params.train.workers, "cpus": 1.0, "gpus": params.train.gpus_per_worker}


def _cpu_group(pools: list[dict[str, Any]], params: Params, plan: Plan, disk: int) -> Group:
    cores = max(pool["actors"] * pool["cpus"] for pool in pools) if pools else 0
    pods = math.ceil(cores / (CPU_POD - FEEDING)) or 1
    actors = max(math.ceil(pool["actors"] / pods) for pool in pools) if pools else 1
    trained = 0 if params.train.gpus_per_worker else plan.memory.peak + sum(plan.host.values())
    return Group(pods, CPU_POD, 0, _gib(PROCESSES + max(actors * ACTOR, trained)), disk)


def _gpu_group(pools: list[dict[str, Any]], gpus_per_pod: int, plan: Plan, disk: int) -> Group:
    """A pod loads through its memory, for each GPU, the base that is trained with its data, or the whole pipeline."""
    gpus = math.ceil(max(pool["actors"] * pool["gpus"] for pool in pools))
    cores = gpus_per_pod * max(pool["cpus"] / pool["gpus"] for pool in pools)
    memory = gpus_per_pod * max(sum(plan.host.values()), plan.encode_bytes) + PROCESSES
    base = math.ceil(plan.encode_bytes / GIB)
    return Group(math.ceil(gpus / gpus_per_pod), math.ceil(cores) + FEEDING, gpus_per_pod, _gib(memory), disk + base)


def _disk(params: Params, plan: Plan) -> int:
    """GiB of a worker: pictures, encoded data, checkpoints, published weights."""
    pictures = plan.rows.images * PIXEL * params.collect.size**2
    kept = ("latents", "features", "text embeddings", "grids", "checkpoints", "published weights")
    return math.ceil((pictures + sum(plan.disk[name] for name in kept)) / GIB)


def head_disk(params: Params, plan: Plan) -> int:
    """GiB of the fullest moment on the head: what a stage reads, makes and journals, in the folder of its job, beside
    all that earlier stages gave back to a submitter on the head, as that of a RayJob, and the base, whose revision the
    stages ask for. Checkpoints stay elsewhere.
    """
    pictures = plan.rows.images * PIXEL * params.collect.size**2 // 2  # both sides of every pair, as PNG
    size = {"data/sources": pictures // 2, "data/candidates": pictures, "data/pairs": pictures}
    size["data/encoded"] = sum(plan.disk[name] for name in ("latents", "features", "text embeddings", "grids"))
    size["models/candidate"] = plan.disk["published weights"]  # the baselines among them
    journals = {"generate": pictures, "encode": size["data/encoded"]}  # rows that hold what is made, not only numbers
    given = fullest = 0
    for stage in stage_names():
        made = sum(size.get(path, 0) for path in outs(stage))
        at_once = sum(size.get(path, 0) for path in deps(stage)) + made + journals.get(stage, 0)
        fullest = max(fullest, given + at_once)
        given += made
    return math.ceil((fullest + plan.encode_bytes + SPARE) / GIB)


def _gib(private: float) -> int:
    """Memory of a pod whose processes take `private` bytes, Ray's store of objects beside them."""
    return math.ceil(private / (1 - OBJECT_STORE) / GIB)
