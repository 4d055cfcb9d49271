"""A plan on the console."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from lorweb.plan.devices import device
from lorweb.plan.fit import RESERVE
from lorweb.plan.memory import COMPONENTS

if TYPE_CHECKING:
    from lorweb.plan.fit import Fit
    from lorweb.plan.report import Plan


def show(plan: "Plan", console: Console) -> None:
    """Print parameters, memory, time, disk, and what to change to fit."""
    console.print()
    _memory(plan, console)
    _host(plan, console)
    _time(plan, console)
    _disk(plan, console)
    _fits(plan, console)


def amount(count: float) -> str:
    """Bytes in GB or MB, which are 10^9 and 10^6 of them."""
    if count < 1e9:
        return f"{count / 1e6:.2f} MB"
    return f"{count / 1e9:,.2f} GB" if count < 1e11 else f"{count / 1e9:,.0f} GB"


def _memory(plan: "Plan", console: Console) -> None:
    setting, tokens = plan.setting, plan.tokens
    where = "GPU" if setting.cuda else "worker, in host memory"
    scale, unit = (1e9, "GB") if plan.memory.peak >= 1e9 else (1e6, "MB")
    table = Table(title=f"{unit} per {where}: {_how(plan)}", title_justify="left", box=None)
    table.add_column("component")
    for phase in plan.memory.phases:
        table.add_column(phase, justify="right")
    for key, text in COMPONENTS.items():
        row = [parts.get(key, 0) for parts in plan.memory.phases.values()]
        if any(row):
            table.add_row(text, *(f"{count / scale:,.2f}" if count else "" for count in row))
    table.add_row("together", *(f"{plan.memory.total(phase) / scale:,.2f}" for phase in plan.memory.phases))
    console.print(table)
    beside = f", and about {amount(RESERVE)} for CUDA and its allocator" if setting.cuda else ""
    console.print(
        f"Peak {amount(plan.memory.peak)} ({plan.memory.peak_phase}){beside}; {setting.rows} analogies at once, "
        f"each {tokens.image} image tokens (noisy and control) + {tokens.text} text tokens."
    )


def _how(plan: "Plan") -> str:
    s = plan.setting
    kept = "on" if s.gradient_checkpointing else "off"
    parts = [f"batch {s.batch_size}, workers {s.workers}, accumulate {s.accumulate}, {s.precision}"]
    parts += [f"gradient_checkpointing {kept}, {s.optimizer}"]
    parts += [f"sharding {s.sharding}"] if s.sharding != "none" else []
    parts += ["shard_base"] if s.shard_base else []
    parts += [f"base_weights {s.base_weights}"] if s.base_weights != "full" else []
    parts += ["offload_activations"] if s.offload_activations else []
    return ", ".join(parts)


def _host(plan: "Plan", console: Console) -> None:
    most = "at most " if plan.rows.bound else ""
    console.print(f"Host memory per worker: {_listed(plan.host)}; encoded data is {most}that.")
    console.print(
        f"The encode stage makes latents and embeddings before training, with the whole pipeline's weights in memory: "
        f"{amount(plan.encode_bytes)}."
    )


def _time(plan: "Plan", console: Console) -> None:
    on, time, given = device(plan.given.gpu), plan.time, plan.given
    peak = on.bfloat16 if plan.setting.precision == "bfloat16" else on.float32
    parts = {
        "products": time.compute,
        "update": time.update,
        "unpacking": time.unpacking,
        "workers": time.workers,
        "offload": time.offload,
    }
    console.print(
        f"\nTime, an estimate: {time.flops / 1e12:,.4g} TFLOP a step and worker at {given.utilisation:g} of "
        f"{given.gpu}'s {peak / 1e12:,.4g} TFLOP/s: {time.seconds:.3g} s, {1 / time.seconds:.3g} steps/s "
        f"({', '.join(f'{name} {seconds:.3g} s' for name, seconds in parts.items() if seconds)})."
    )
    hours = ", ".join(f"{name} {count:.3g}" for name, count in plan.hours.items() if count)
    console.print(f"Hours for train.steps, with validation and sheets ({plan.validation_seconds:.3g} s each): {hours}.")


def _disk(plan: "Plan", console: Console) -> None:
    bound = "at most " if plan.rows.bound else ""
    console.print(
        f"Disk for {bound}{plan.rows.images:,} images and {plan.rows.instructions:,} instructions: "
        f"{_listed(plan.disk)}. Checkpoints are of one variant; each baseline has its own."
    )


def _fits(plan: "Plan", console: Console) -> None:
    if not plan.fits:
        return
    table = Table(title="\nTo fit a GPU", title_justify="left", box=None)
    table.add_column("GB", justify="right")
    table.add_column("change in train", overflow="fold")
    table.add_column("peak", justify="right")
    table.add_column("GPU time of a step", justify="right")
    for fit in plan.fits:
        time = f"{fit.relative_time:.2f}x" if fit.setting else ""
        table.add_row(f"{fit.size / 1e9:g}", _changes(fit), amount(fit.peak), time)
    console.print(table)


def _changes(fit: "Fit") -> str:
    if fit.setting is None:
        return f"nothing fits; what needs least: {'; '.join(fit.changes) or 'this'}"
    return "; ".join(fit.changes) or "nothing, it fits as it is"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {amount(count)}" for name, count in counts.items() if count)
