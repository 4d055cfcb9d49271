"""Peak memory of one call, counted at torch's own allocator, and what a run holds between its steps.

On a CPU torch.profiler sees every block that the allocator gives and takes back, temporaries inside of operators as
well; the peak is the largest running sum. On CUDA it is `max_memory_allocated`. What libraries allocate past torch
(MKL's packing buffers) is in neither, nor is fragmentation.
"""

import gc
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path

import torch
from _measure import Claim
from _report import Row, show
from _table import contestant, judged
from _training import stepping
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lorweb.training.step import Run


@dataclass(frozen=True)
class Held:
    """Bytes that a run holds between its steps, its gradients given back."""

    base: int
    trained: int
    moments: int  # and the running average, where there is one

    @property
    def all(self) -> int:
        """The sum."""
        return self.base + self.trained + self.moments


def peak_of(call: Callable[[], object], device: torch.device) -> int:
    """Most bytes that are allocated at once during a call, beyond what there was before it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    blocks = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    assert blocks, "the profiler saw no block of memory"
    return max(0, *accumulate(size for _, size in blocks))


def held(run: Run) -> Held:
    """Every storage counted once, whichever tensors share it."""
    trained = list(run.variant.parameters.values())
    model = run.variant.transformer
    found = {id(parameter) for parameter in trained}
    base = [tensor for tensor in chain(model.parameters(), model.buffers()) if id(tensor) not in found]
    moments = [value for slots in run.optimizer.state.values() for value in slots.values() if isinstance(value, Tensor)]
    moments += list(run.ema.values.values()) if run.ema else []
    return Held(_bytes(base), _bytes(trained), _bytes(moments))


def peaks(runs: dict[str, Run], claims: Sequence[Claim]) -> list[Row]:
    """A row of each claim about memory; call it after the steps of a race, when every moment is there."""
    told = {}
    for name, run in runs.items():
        run.optimizer.zero_grad(set_to_none=True)
        own = held(run)
        assert own.moments, "no step was taken yet, and the optimiser holds nothing"
        beyond = peak_of(stepping(run), run.device)
        run.optimizer.zero_grad(set_to_none=True)
        parts = {"base": own.base, "trained": own.trained, "moments": own.moments, "step": beyond}
        told[name] = {"all": own.all + beyond, **parts}
    rows = []
    for claim in claims:
        ours, rival = (
            {part: round(size / 1e6, 3) for part, size in told[who].items()} for who in (claim.ours, claim.rival)
        )
        ratio = told[claim.ours]["all"] / told[claim.rival]["all"]
        met = None if claim.target is None else ratio <= claim.target
        row = {"name": claim.name, "rival": claim.rival, "ratio": round(ratio, 4), "target": claim.target, "met": met}
        row |= {"unit": f"peak bytes, {claim.ours} / {claim.rival}", "n": 1, "mb": ours, "rival_mb": rival}
        rows.append(show(row))
    return rows


def table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table of rows about memory."""
    found = ["| what | ours | rival | peak memory | target | met | ours, MB | rival, MB |", "|---" * 8 + "|"]
    for row in rows:
        sizes = " | ".join(_parts(row[side]) for side in ("mb", "rival_mb"))
        found.append(
            f"| {row['name']} | {contestant(row)} | {row['rival']} | {row['ratio']:.3f} | {judged(row)} | {sizes} |"
        )
    return found


def _parts(mb: dict[str, float]) -> str:
    return f"{mb['all']:.4g} = {mb['base']:.4g} + {mb['trained']:.4g} + {mb['moments']:.4g} + {mb['step']:.4g}"


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {storage.data_ptr(): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())
