"""What a visitor may take home of an answer: b' with how it was made, the mix, and a plain LoRA.

Legend: L layers with a basis, N LoRAs per layer.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lorweb.basis.files import write_bytes
from lorweb.provenance import SERVED, facts_of_one, model_facts, png_with_facts, surroundings
from lorweb.serving.demo_limits import Limits

if TYPE_CHECKING:
    from lorweb.kontext.pipeline import AnalogyPipeline
    from lorweb.serving.demo_studio import Drawn


@dataclass(frozen=True)
class Answer:
    """The files of one drawing, and what a LoRA of it needs. `mix` and `mix_LN` are None with internal queries."""

    image: Path
    mix: Path | None
    mix_LN: Tensor | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class Lora:
    """A baked LoRA: its file, its rank, and the relative error of a rank below the exact one."""

    path: Path
    rank: int
    error: float


@dataclass(frozen=True)
class _Kept:
    folder: Path
    kind: str
    size: int


class Desk:
    """Writes the files of answers below a folder that goes away with the server; only the last within `limits` stay.

    That folder lies in Gradio's own, which hands out files from there as they are and would keep copies of others.
    """

    def __init__(self, pipe: "AnalogyPipeline", basis: Path, limits: Limits, uploads: Path) -> None:
        """`basis` is the file that `pipe` was loaded from: mix and LoRA carry its hash. Raises OSError."""
        self.pipe, self.limits = pipe, limits
        self.around = {**model_facts(SERVED, basis), **surroundings(pipe, "none")}
        self.basis_sha256 = str(self.around["basis_sha256"])
        uploads.mkdir(parents=True, exist_ok=True)
        self.holder = TemporaryDirectory(prefix="lorweb-demo-", dir=uploads)
        self.kept: list[_Kept] = []

    def put(self, drawn: "Drawn") -> Answer:
        """Write b' and the mix. Raises OSError where the disk is full or cannot be written."""
        from lorweb.basis.mix_files import MixFile
        from lorweb.basis.mixes import mix_hash

        question, mix_LN = drawn.question, drawn.mix_LN
        name = "internal" if mix_LN is None else mix_hash(mix_LN)[:8]
        mix_name = f"mix-{name}.safetensors"
        blend = {} if question.second is None else {"interpolation": question.t}
        taken = [mix_name] if blend and mix_LN is not None else []  # no exemplar gives a blend again, its file does
        settings = {
            "prompt": question.prompt,
            "steps": self.pipe.steps,
            "guidance": self.pipe.guidance,
            "seed": question.seed,
            "strength": question.strength,
            "mixes": taken,
            **blend,
        }
        a, a2 = question.shown
        shown = {"a": a, "a2": a2, "b": question.b}
        facts = facts_of_one(settings, self.around, shown, None if mix_LN is None else mix_hash(mix_LN))
        with self._folder("answer") as folder:
            image, mix = folder / f"b2-{name}.png", folder / mix_name
            write_bytes(image, png_with_facts(drawn.image, facts))
            if mix_LN is None:
                return Answer(image, None, None, facts)
            about = {"base": self.pipe.base.name, "query_mode": self.pipe.config.query_mode, **blend}
            MixFile(mix_LN, self.basis_sha256, about).save(mix)
            return Answer(image, mix, mix_LN, facts)

    def bake(self, answer: Answer, style: str, rank: int | None) -> Lora:
        """One plain LoRA of an answer at strength 1; `rank` None is exact.

        Raises:
            ValueError: an unknown format, a rank that the basis cannot give, or internal queries.
            OSError: the disk is full or cannot be written.
        """
        from lorweb.basis.lora_file import known_format

        known = known_format(style)
        if answer.mix_LN is None:
            raise ValueError("this model asks anew in every layer at every step, so that no one LoRA can stand for it")
        baked = self.pipe.bake(answer.mix_LN, rank)
        with self._folder("lora") as folder:
            path = folder / f"lora-{answer.facts['mix'][:8]}-{known}-rank{baked.rank}.safetensors"
            baked.save(path, known, {"base": self.pipe.base.name, "basis_sha256": self.basis_sha256})
        return Lora(path, baked.rank, baked.total_error)

    @contextmanager
    def _folder(self, kind: str) -> Iterator[Path]:
        """A folder to write in; it goes again if that fails, and older ones go if it is too much."""
        folder = Path(self.holder.name) / token_hex(16)  # nobody guesses the folder of another visitor's answer
        folder.mkdir()
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.kept.append(_Kept(folder, kind, sum(file.stat().st_size for file in folder.iterdir())))
        for one in self._too_much():
            shutil.rmtree(one.folder, ignore_errors=True)
            self.kept.remove(one)

    def _too_much(self) -> "list[_Kept]":
        """All but the newest whose kind is kept often enough without them, or whose bytes are one too many."""
        counts, total, found = {"answer": 0, "lora": 0}, 0, []
        most = {"answer": self.limits.kept, "lora": self.limits.kept_loras}
        for one in reversed(self.kept):
            if one is self.kept[-1] or (
                counts[one.kind] < most[one.kind] and total + one.size <= self.limits.kept_bytes
            ):
                counts[one.kind] += 1
                total += one.size
            else:
                found.append(one)
        return found
