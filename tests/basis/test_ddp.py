"""Two processes with half of the batch each have the gradients of one process with all of it."""

import gc
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorweb.basis import analogy
from tests.basis.cases import INTERNAL, config, gradients, queries, trained
from tests.tiny import grid_ids, tiny_inputs, tiny_transformer

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "shared": {"projection": "shared"},
    "none": {"projection": "none", "query_dim": 8},
    "internal": INTERNAL,
}
BATCH, STEPS = 4, 2


def step(model: nn.Module, name: str, rows: slice) -> None:
    settings = config(**VARIANTS[name])
    given = {k: v if k.endswith("ids") else v[rows] for k, v in tiny_inputs(BATCH, 16).items()}
    given["img_ids"] = grid_ids(2, 4)
    query: Tensor | None = None if settings.internal else queries(BATCH, settings)[rows]
    with analogy(model, query):
        model(**given).sample.square().mean().backward()


def made(name: str) -> Any:
    torch.set_num_threads(1)
    model = tiny_transformer(0)
    trained(model, config(**VARIANTS[name]))
    model.train()
    model.enable_gradient_checkpointing()
    return model


def work(rank: int, port: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for name in VARIANTS:
        model = made(name)
        parallel = nn.parallel.DistributedDataParallel(model)
        for _ in range(STEPS):  # DDP complains at the second step if a parameter got no gradient at the first
            model.zero_grad()
            step(parallel, name, slice(rank * BATCH // 2, (rank + 1) * BATCH // 2))
        save_file(gradients(model), Path(folder) / f"{name}-{rank}.safetensors")
        del parallel, model
    gc.collect()  # DDP goes before its group: the other way round its end waits for threads that wait for it
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, args=(port, str(tmp_path)), nprocs=2)
    for name in VARIANTS:
        model = made(name)
        step(model, name, slice(0, BATCH))
        expected, ranks = gradients(model), [load_file(tmp_path / f"{name}-{rank}.safetensors") for rank in (0, 1)]
        assert len(expected) > 50 and expected.keys() == ranks[0].keys()
        for key, gradient in expected.items():
            assert torch.equal(ranks[0][key], ranks[1][key]), f"{name}: the ranks disagree on {key}"
            torch.testing.assert_close(ranks[0][key], gradient, rtol=1e-3, atol=1e-6, msg=f"{name}: {key}")
