"""A project folder up to the evaluate stage: drawn pairs of five tasks, encoded by the real stage on tiny parts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageOps

from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.shards import write_rows
from lorweb.evaluation.pictures import png_bytes
from lorweb.records import ANALOGY, DERIVED, PAIR, TRAIN_PAIR, stable_id
from tests.kontext_tiny import drawn_image
from tests.model_tiny import QUADRANT, save_model, save_parts

ROOT = Path(__file__).parents[2]
SIDE = 48  # px, more than a quadrant
TASKS = {
    "negative": ("none", ImageOps.invert),
    "mirror": ("none", ImageOps.mirror),
    "grey": ("value", lambda image: ImageOps.grayscale(image).convert("RGB")),
    "flip": ("edit", ImageOps.flip),
    "both": ("composition", lambda image: ImageOps.flip(ImageOps.invert(image))),
}
SUBJECTS = (("photo-1", "photo"), ("photo-2", "photo"), ("thumbs-1", "avatar:thumbs"))


def make_project(root: Path, models: tuple[str, ...] = ()) -> Path:
    """Everything that the evaluate stage reads, below `root` (which must be the working directory)."""
    from pipelines import encode
    from pipelines._rows import in_process

    parts = save_parts(root / "parts")
    write_params(root, parts, models)
    _write_pairs()
    encode.main(in_process)
    save_model(parts, root / "models" / "candidate")
    _save_single_lora(parts, root / "models" / "baselines" / "single_lora")
    return root


def write_params(root: Path, parts: Path, models: tuple[str, ...] = (), **promote: Any) -> None:
    """The committed parameters with tiny parts; `promote` changes the gate."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    pool = {"actors": 2, "cpus": 0.25, "gpus": 0, "batch_size": 4}
    params["encode"] |= {
        "base": str(parts / "kontext"),
        "quadrant": QUADRANT,
        "encoder": f"clip:{parts / 'clip'}",
        "pool": pool,
    }
    params["evaluate"] |= {"num_inference_steps": 2, "bootstrap": 50, "pictures_per_cell": 2, "pool": pool}
    params["evaluate"]["atoms"] = {"loras": 2, "strengths": [0.5, 1.0], "queries": 1}
    if models:
        params["evaluate"]["models"] = list(models)
    params["promote"]["gate"] |= promote
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def _write_pairs() -> None:
    """data/pairs and data/analogies; every analogy is of two subjects."""
    pairs: list[dict[str, Any]] = []
    analogies: list[dict[str, Any]] = []
    for task, (holdout, edit) in TASKS.items():
        ids = []
        for number, (subject, category) in enumerate(SUBJECTS):
            before = drawn_image(number, SIDE, SIDE)
            ids.append(stable_id(task, subject))
            pairs.append(_pair(ids[-1], task, subject, category, before, edit(before)))
        for number in range(2):
            analogies.append(
                {
                    "id": stable_id("analogy", task, number),
                    "task": task,
                    "edit_type": "colour",
                    "exemplar": ids[number],
                    "query": ids[number + 1],
                    "instruction": f"make it {task}",
                    "split": "test",
                    "holdout": holdout,
                    "subject_seen": False,
                }
            )
    write_rows(pairs, Path("data/pairs"), PAIR)
    write_manifest(Path("data/pairs"), Manifest(len(pairs), {}, {}, {}))
    write_rows(analogies, Path("data/analogies"), ANALOGY)
    train = [
        {"pair": p["id"], "task": p["task"], "subject": p["subject"], "instruction": p["instruction"], "weight": 1}
        for p in pairs[:2]
    ]
    write_rows(train, Path("data/analogies/train"), TRAIN_PAIR)
    write_rows([], Path("data/analogies/derived"), DERIVED)
    write_manifest(Path("data/analogies"), Manifest(len(analogies), {}, {"catalogue_sha256": "0" * 64}, {}))


def _pair(name: str, task: str, subject: str, category: str, before: Image.Image, after: Image.Image) -> dict[str, Any]:
    return {
        "id": name, "task": task, "edit_type": "colour", "instruction": f"make it {task}", "source_id": subject,
        "subject": subject, "category": category, "before": png_bytes(before), "after": png_bytes(after), "seed": 0,
        "editor": "drawn", "editor_revision": "1", "licence": "CC0-1.0", "scores": "{}",
    }  # fmt: skip


def _save_single_lora(parts: Path, folder: Path) -> None:
    import torch

    from lorweb.kontext.load import load_base
    from lorweb.training.baseline import new_single_lora

    base = load_base(str(parts / "kontext"), torch.float32, "cpu")
    variant = new_single_lora(base.transformer, 6, ("transformer_blocks.*", "single_transformer_blocks.*"), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in variant.parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    folder.mkdir(parents=True)
    variant.save(folder, {})


def pixels(png: bytes) -> np.ndarray:
    """PNG bytes as [H, W, 3]."""
    import io

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def read_json(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content
