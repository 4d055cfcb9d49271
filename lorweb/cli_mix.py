"""Commands that keep an analogy without its images: coefficient files and LoRAs. Thin, like `lorweb.cli`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorweb.cli_options import Dtype, Json, LoraStyle, Model
from lorweb.cli_output import busy, print_json, say
from lorweb.commands import CHAMPION

if TYPE_CHECKING:
    from lorweb.basis.fold import Progress

A = Annotated[Path | None, typer.Argument(help="Exemplar before the edit.")]
A2 = Annotated[Path | None, typer.Argument(help="Exemplar after the edit.")]
B = Annotated[list[Path] | None, typer.Argument(help="Query images; their coefficients are averaged.")]
Pairs = Annotated[
    list[str] | None,
    typer.Option("--pair", metavar="A,A2", help="A further exemplar pair of the same edit; all pairs are averaged."),
]
Mixes = Annotated[
    list[str] | None,
    typer.Option(help="In the place of images: a coefficient file, or FILE:WEIGHT; several are averaged or summed."),
]


def mix(  # noqa: PLR0913, PLR0917  one parameter per option
    out: Annotated[Path, typer.Option("--out", "-o", help="Coefficient file to write, .safetensors.")],
    a: A = None,
    a2: A2 = None,
    b: B = None,
    pair: Pairs = None,
    mix: Mixes = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Keep the M largest of each layer, the others 0.")] = None,
    keep_sum: Annotated[bool, typer.Option("--keep-sum", help="With --keep: scale them to the sum of all.")] = False,
    scale: Annotated[float, typer.Option(help="Factor on all coefficients; -1 is the opposite update.")] = 1.0,
    model: Model = CHAMPION,
    as_json: Json = False,
) -> None:
    """Write the coefficients of an analogy, averaged over exemplar pairs, or a sum of such files.

    `lorweb apply --mix FILE` uses them. A file belongs to the basis that made it, and is refused by others.

    Example: lorweb mix a.png a2.png b.png --pair c.png,c2.png -o warm.safetensors --keep 3

    Example: lorweb mix --mix warm.safetensors:0.7 --mix night.safetensors:0.3 -o dusk.safetensors
    """
    from lorweb.basis.mixes import mix_hash
    from lorweb.coefficients import coefficients, shaped, source_of
    from lorweb.commands import model_file
    from lorweb.outputs import check_kept, check_weights_file

    source = source_of([a, a2, *(b or [])], pair or [], mix or [])
    check_weights_file(out)
    basis = model_file(model)
    check_kept([out], [basis, *source.read()])
    with busy("mix"):
        found = shaped(coefficients(basis, source), keep, keep_sum, scale)
    found.save(out)
    (layers, loras), name = found.mix_LN.shape, mix_hash(found.mix_LN)
    if as_json:
        told = {"output": str(out), "mix": name, "layers": layers, "loras": loras, "basis_sha256": found.basis_sha256}
        print_json({**told, "facts": found.facts})
    else:
        say(f"{out}: {layers} layers x {loras} LoRAs, {name}")


def bake(  # noqa: PLR0913, PLR0917  one parameter per option
    out: Annotated[Path, typer.Option("--out", "-o", help="LoRA to write, .safetensors.")],
    a: A = None,
    a2: A2 = None,
    b: B = None,
    pair: Pairs = None,
    mix: Mixes = None,
    rank: Annotated[
        int | None, typer.Option(min=1, help="Rank; by default N*r, which is exact. A larger one is padded with zeros.")
    ] = None,
    lora_format: Annotated[
        LoraStyle, typer.Option("--format", help="Keys as PEFT has them, or as kohya's with fused q, k, v (comfyui).")
    ] = LoraStyle.diffusers,
    dtype: Annotated[Dtype, typer.Option(help="Of the values in the file.")] = Dtype.float32,
    model: Model = CHAMPION,
    log: Annotated[bool, typer.Option("--log", help="Also log it to MLflow, in its diffusers flavour.")] = False,
    as_json: Json = False,
) -> None:
    """Fold one analogy into a plain LoRA, and report what a smaller rank loses.

    Several B images or exemplar pairs are averaged: one LoRA for what they have in common.

    Example: lorweb bake a.png a2.png b.png b3.png -o sepia.safetensors --rank 8

    Example: lorweb bake --mix dusk.safetensors -o dusk-lora.safetensors --format comfyui
    """
    from lorweb.basis import fold, router_of
    from lorweb.basis.bare import load_bare
    from lorweb.basis.lora_file import known_dtype, known_format
    from lorweb.coefficients import check_rank, coefficients, source_of
    from lorweb.commands import fixed_model, model_file
    from lorweb.outputs import check_kept, check_weights_file

    style, precision = known_format(lora_format.value), known_dtype(dtype.value)
    source = source_of([a, a2, *(b or [])], pair or [], mix or [])
    check_weights_file(out)
    if log and style != "diffusers":
        raise ValueError("--log wants --format diffusers: MLflow's flavour reads no other keys")
    model = fixed_model(model)  # what is baked and what is logged are one version
    basis = model_file(model)
    check_kept([out], [basis, *source.read()])
    check_rank(rank, basis)
    with busy("mix"):
        found = coefficients(basis, source)
    bare = load_bare(basis)
    with _progress_bar("bake") as progress:
        baked = fold.bake(bare, found.mix_LN, rank, progress, precision)
    baked.save(out, style, {**found.base, "basis_sha256": found.basis_sha256})
    logged = _log(out, model) if log else None
    if as_json:
        told = {"output": str(out), "rank": baked.rank, "format": style, "dtype": dtype.value, "mix": baked.mix}
        print_json({**told, "total_error": baked.total_error, "errors": baked.errors, "logged": logged})
        return
    worst = max(baked.errors, key=lambda name: baked.errors[name])
    say(f"{out}: rank {baked.rank}, {len(baked.errors)} layers, {style} keys, {dtype.value}")
    say(f"relative error {baked.total_error:.4f} in all, at most {baked.errors[worst]:.4f} ({worst})")
    if baked.rank > (exact := router_of(bare).config.total_rank):
        say(f"rank {exact} is exact; the file is padded with zeros to rank {baked.rank}, as hot swap wants it")
    if logged:
        say(f"logged as {logged}")


def _log(out: Path, model: str) -> str:
    from lorweb.serving.baked import log_baked

    return log_baked(out, model)


@contextmanager
def _progress_bar(title: str) -> Iterator["Progress"]:
    """A bar on a terminal's stderr, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title)
        yield lambda done, layers: bar.update(task, completed=done, total=layers)
