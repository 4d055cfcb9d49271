"""`make pretrain`: how the committed tiny base is made. Numbers in pretrain.yaml; hours on two cores, resumable.

python -m lorweb.tiny.pretrain corpus              # edited pairs of packaged images into the work folder
python -m lorweb.tiny.pretrain train --minutes 60  # text encoders and transformer; run again to go on
python -m lorweb.tiny.pretrain codec --minutes 20  # the decoder's refinement
python -m lorweb.tiny.pretrain export              # the diffusers folder, its metrics and picture sheet
python -m lorweb.tiny.pretrain adopt               # instead of starting afresh: go on from the packaged base
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import typer
import yaml

from lorweb.data.catalogue import load_catalogue
from lorweb.tiny.architecture import SIZES, build, vocabulary
from lorweb.tiny.batches import Corpus
from lorweb.tiny.codec import PatchCodec
from lorweb.tiny.corpus import CorpusSpec, make_corpus, read_corpus, training_tasks
from lorweb.tiny.export import HeldOut, codec_metrics, edit_metrics, settings_of, write_base, write_metrics
from lorweb.tiny.fit_codec import adopted_codec, fitted_codec, refine_decoder, to_pixels
from lorweb.tiny.state import TrainState, load_state, save_state
from lorweb.tiny.step import Numbers, examples_of, set_rate, train_step, trained_parts

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
WORK: Final = Path(".work/tiny")
PACKAGED: Final = Path(__file__).with_name("kontext")


def numbers() -> Numbers:
    """pretrain.yaml."""
    loaded: Numbers = yaml.safe_load(Path(__file__).with_name("pretrain.yaml").read_text(encoding="utf-8"))
    return loaded


@app.command()
def corpus(workers: Annotated[int, typer.Option(help="processes")] = 1) -> None:
    """Make the missing parts of the corpus."""
    n = numbers()
    make_corpus(WORK / "corpus", CorpusSpec(quadrant=n["quadrant"], **n["corpus"]), workers)


@app.command()
def adopt() -> None:
    """Put the packaged base into the work folder, so that `codec`, `train` and `export` improve it.

    Its latents stay what they are; the optimiser's moments start afresh.
    """
    n = numbers()
    facts = json.loads((PACKAGED / "metrics.json").read_text(encoding="utf-8"))
    codec = adopted_codec(PACKAGED / "vae", n, WORK / "codec")
    parts = trained_parts(new_pipeline(n, facts["size"], codec))
    for name, part in parts.items():
        part.load_state_dict(type(part).from_pretrained(PACKAGED / name).state_dict())
    optimizer = torch.optim.AdamW(parts.parameters(), lr=0.0)
    for parameter in parts.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes moments, all zero
    state = TrainState(0, {name: p.detach().clone() for name, p in parts.named_parameters()})
    save_state(WORK / f"train-{facts['size']}", state, parts, optimizer)
    write_metrics(WORK, {"steps": facts["steps"], "size": facts["size"]})


@app.command()
def train(
    minutes: Annotated[float, typer.Option(help="wall-clock time of this call")],
    size: Annotated[str, typer.Option(help="one of the sizes of lorweb.tiny.architecture")] = "",
    decay: Annotated[bool, typer.Option(help="lower the learning rate to zero at the end of this call")] = True,
) -> None:
    """Train, or go on training, until the time is over."""
    n = numbers()
    size = size or n["size"]
    pairs, codec = _latent_corpus(n)
    pipe = new_pipeline(n, size, codec)
    parts = trained_parts(pipe)
    optimizer = torch.optim.AdamW(parts.parameters(), lr=n["learning_rate"], weight_decay=n["weight_decay"])
    folder = WORK / f"train-{size}"
    state = load_state(folder, parts, optimizer)
    end, logged, total = time.monotonic() + 60 * minutes, time.monotonic(), 0.0
    while time.monotonic() < end:
        left = (end - time.monotonic()) / (60 * minutes) if decay else 1.0
        set_rate(optimizer, n, state.step, max(0.0, left))
        total += train_step(pipe, parts, optimizer, examples_of(pairs, n, state.step), n, state)
        if state.step % 50 == 0:
            rate = (time.monotonic() - logged) / 50
            print(f"step {state.step} loss {total / 50:.4f} {rate:.2f} s/step", flush=True)
            logged, total = time.monotonic(), 0.0
        if state.step % 500 == 0:
            save_state(folder, state, parts, optimizer)
    save_state(folder, state, parts, optimizer)


def new_pipeline(n: Numbers, size: str, codec: PatchCodec) -> Any:
    """A fresh pipeline whose tokenizers know every word of the catalogue."""
    texts = [text for task in load_catalogue().tasks for text in task.instructions]
    return build(SIZES[size], vocabulary(texts), codec, n["seed"])


def _latent_corpus(n: Numbers) -> tuple[Corpus, PatchCodec]:
    """The corpus as latents of the codec fitted to it."""
    raw = read_corpus(WORK / "corpus")
    codec = fitted_codec(raw, n, WORK / "codec")
    with torch.no_grad():
        latents = {
            key: torch.cat([codec.encode(to_pixels(chunk)).latents for chunk in raw[key].split(512)])
            for key in ("before", "after")
        }
    return Corpus(latents["before"], latents["after"], raw["task"], training_tasks(load_catalogue())), codec


@app.command()
def codec(minutes: Annotated[float, typer.Option(help="wall-clock time of this call")]) -> None:
    """Train the decoder's refinement; the encoder, and so every latent, stays as it is."""
    n = numbers()
    refine_decoder(read_corpus(WORK / "corpus"), n, WORK / "codec", minutes)


@app.command()
def export(
    size: Annotated[str, typer.Option(help="which training to export")] = "",
    to: Annotated[Path, typer.Option(help="folder to write")] = PACKAGED,
    per_task: Annotated[int, typer.Option(help="held-out pairs per task for the metrics")] = 4,
) -> None:
    """Write the base in diffusers' format with its metrics on subjects that it never saw."""
    n = numbers()
    size = size or n["size"]
    make_corpus(WORK / "held-out", CorpusSpec(1, per_task, n["quadrant"], held_out=True), 1)
    held_out = read_corpus(WORK / "held-out")
    codec = fitted_codec(read_corpus(WORK / "corpus"), n, WORK / "codec")
    pipe = new_pipeline(n, size, codec)
    parts = trained_parts(pipe)
    state = load_state(WORK / f"train-{size}", parts, torch.optim.AdamW(parts.parameters()))
    write_base(pipe, state.average, settings_of(n), to)
    data = HeldOut(**held_out, tasks=training_tasks(load_catalogue()))
    edits = edit_metrics(to, data, per_task, WORK / f"sheet-{size}.jpg")
    reconstruction = codec_metrics(codec, to_pixels(torch.cat([held_out["before"], held_out["after"]])))
    count = sum(p.numel() for p in parts.parameters())
    adopted = json.loads(text) if (text := _text(WORK / "metrics.json")) else {}
    earlier = adopted["steps"] if adopted.get("size") == size else 0
    metrics = {
        "size": size,
        "steps": earlier + state.step,
        "parameters": count,
        "codec": reconstruction,
        "edits": edits,
    }
    metrics["catalogue_sha256"] = load_catalogue().sha256
    write_metrics(to, metrics)
    print({key: value for key, value in edits.items() if key != "tasks"}, reconstruction)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    app()
