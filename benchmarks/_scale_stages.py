"""The stage graph of a profile at a number of accepted pairs: seconds, bytes and files of every function."""

import math
from collections.abc import Mapping
from typing import Any, Final

from _scale_growth import grown
from _scale_light import Light
from _scale_model import Function
from _scale_rows import Assumed, Step, scale_of

from lorweb.config import Params
from lorweb.data.shards import GROUP_BYTES, SHARD_BYTES
from lorweb.plan.devices import device

WORDINGS: Final = 2  # instructions a task has, about
NOT_DENOISED: Final = ("copy", "codec_copy", "codec_truth")  # of evaluate.models
VECTORS: Final = 3  # that a scorer keeps of a pair: before, after, change
_FEATURES: Final = 2 * 768  # bytes of one, CLIP and DINO


class Graph:
    """All functions of a profile at one scale, and what driver, store and disks have to bear."""

    def __init__(self, params: Params, costs: Mapping[str, Any], assumed: Assumed, pairs: int) -> None:
        self.params, self.costs, self.assumed = params, costs, assumed
        self.scale = scale_of(params, costs, assumed, pairs)
        self.light = Light(**costs["light"])
        on = device(assumed.gpu)
        self.flops = on.bfloat16 * assumed.utilisation
        png = costs["workers"]["png_bytes"]
        self.before, self.pair = png["before"], png["before"] + png["after"]

    def steps(self) -> list[Step]:
        """Every row function, in order."""
        return [*self._made(), *self._scored(), *self._encoded()]

    def _made(self) -> list[Step]:
        scale, workers = self.scale, self.costs["workers"]
        read_s, edit_s = (workers["functions"][name]["worker_s"] for name in ("collect read", "generate edit_embedded"))
        pools = {entry.editor: entry.pool for entry in self.params.generate.editors}
        model_s = self.light.edit / self.flops + workers["decode_s"] + workers["encode_s"]
        source = group(self.before)
        made = [
            ("collect", "read", self.params.collect.pool, scale.sources, read_s, self.before, self.before),
            ("generate", "embedded", pools["embedded"], scale.embedded, edit_s, source, self.pair),
            ("generate", "kontext", pools["kontext"], scale.kontext, model_s, source, self.pair),
        ]
        return [_step(*row) for row in made]

    def _scored(self) -> list[Step]:
        workers, light, rows = self.costs["workers"], self.light, self.scale.candidates
        decode = 2 * workers["decode_s"]
        vectors = VECTORS * _FEATURES
        cost = {
            "embedded": (workers["functions"]["filter score_embedded"]["worker_s"], "embedded"),
            "effnet": (workers["functions"]["filter score_features_effnet"]["worker_s"], "features_effnet"),
            "clip": (decode + 2 * (light.clip_image + light.clip_text) / self.flops, ""),
            "dino": (decode + 2 * light.dino_image / self.flops, ""),
        }
        found = []
        for entry in self.params.filter.scorers:
            name = getattr(entry, "name", None) or entry.scorer
            seconds, journal = cost[name]
            kept = workers["journal_bytes"][journal] if journal else vectors
            found.append(_step("filter", name, entry.pool, rows, seconds, group(self.pair), kept))
        return found

    def _encoded(self) -> list[Step]:
        light, pool = self.light, self.params.encode.pool
        texts = WORDINGS * self.scale.tasks + 1
        image = self.costs["workers"]["decode_s"] + (light.vae_encode + light.clip_image) / self.flops
        answer = light.answer / self.flops
        tested = self.scale.tasks * self.params.assemble.test_per_task
        models = sum(name not in NOT_DENOISED for name in self.params.evaluate.models)
        answers = self.params.evaluate.pool
        return [
            _step("encode", "images", pool, self.scale.images, image, group(self.pair), light.image_bytes),
            _step("encode", "texts", pool, texts, light.text / self.flops, 0, light.text_bytes),
            _step("evaluate", "answers", answers, tested * models, answer, 0, self.pair / 2),
        ]

    def outs(self) -> dict[str, float]:
        """Bytes that each stage publishes, which DVC keeps."""
        scale, light = self.scale, self.light
        encoded = scale.images * light.image_bytes + (WORDINGS * scale.tasks + 1) * light.text_bytes
        return {
            "collect": scale.sources * self.before,
            "generate": scale.candidates * self.pair,
            "filter": scale.pairs * self.pair,
            "encode": encoded,
            "train": light.model_bytes,
        }

    def journals(self) -> dict[str, float]:
        """Bytes below .work, by stage."""
        found: dict[str, float] = {}
        for step in self.steps():
            found[step.stage] = found.get(step.stage, 0.0) + step.function.rows * step.function.written
        return found

    def shards(self) -> int:
        """Files that DVC sees: shards of data, and the weights of each variant in one."""
        data = [size for stage, size in self.outs().items() if stage != "train"]
        return sum(max(1, math.ceil(size / SHARD_BYTES)) for size in data) + 1 + len(self.params.train.baselines)

    def moved(self) -> float:
        """Bytes between actors and the store."""
        return sum(step.function.rows * (step.function.read + step.function.written) for step in self.steps())

    def driver_seconds(self) -> dict[str, dict[str, float]]:
        """Of the driver alone, by stage.

        rows: it keeps account of. each: it compares with each other of its task. reads: of rows that it merges, each
        from another file of the journal. bytes: it passes on and hashes. dvc: hashes of what the stage publishes.
        """
        scale, outs, rates = self.scale, self.outs(), self.costs["rates"]
        rows = self._accounts()
        whole = rates["publish"] + rates["sha256"]
        passed = {
            "collect": outs["collect"] * whole,
            "generate": outs["generate"] * whole,
            "filter": outs["generate"] * rates["digest"] + outs["filter"] * whole,
            "assemble": outs["filter"] * rates["digest"],
            "encode": outs["filter"] * rates["digest"] + outs["encode"] * whole,
        }
        return {
            stage: {
                "rows": rows.get(stage, 0) * self.costs["driver"].get(stage, {}).get("row_s", 0.0),
                "each": (stage == "filter") * scale.tasks * self.costs["task"]["seconds"] * self.per_task**2,
                "reads": self._merged().get(stage, 0) * self.assumed.latency,
                "bytes": passed[stage],
                "dvc": outs.get(stage, 0.0) * rates["md5"] / self.assumed.md5_threads,
            }
            for stage in passed
        }

    def _accounts(self) -> dict[str, int]:
        """Rows that a driver keeps account of."""
        scale = self.scale
        made = {"generate": scale.candidates, "filter": scale.candidates}
        return {**made, "assemble": scale.pairs, "encode": scale.images}

    def grown_seconds(self) -> dict[str, float]:
        """What `rows` of `driver_seconds` would be if the growth that was measured went on."""
        return {stage: grown(self.costs["driver"][stage], rows) for stage, rows in self._accounts().items()}

    def _merged(self) -> dict[str, int]:
        """Rows that a driver reads one by one: they come in the order of their ids, so that the next is elsewhere."""
        scale = self.scale
        scored = scale.candidates * len(self.params.filter.scorers)
        return {"generate": scale.candidates, "filter": scored, "encode": scale.images}

    @property
    def per_task(self) -> float:
        """Candidates of one task, which the filter compares each with each."""
        return self.scale.candidates / self.scale.tasks

    def driver_bytes(self) -> float:
        """Memory of the hungriest driver, without its libraries."""
        own = self.costs["driver"]
        return max(rows * own[stage]["row_bytes"] for stage, rows in self._accounts().items())

    def host_bytes(self) -> float:
        """Encoded data in the memory of one training worker."""
        texts = WORDINGS * self.scale.tasks + 1
        return self.scale.images * self.light.host_image_bytes + texts * self.light.host_text_bytes


def group(row_bytes: float) -> float:
    """Bytes that are read for one row: its whole row group."""
    return max(1, int(GROUP_BYTES // row_bytes)) * row_bytes


def _step(stage: str, name: str, pool: Any, rows: int, worker_s: float, read: float, written: float) -> Step:  # noqa: PLR0913, PLR0917
    function = Function(rows, pool.batch_size, pool.actors, worker_s, read=read, written=written)
    return Step(stage, name, function, pool.gpus, max(pool.cpus, 1.0))
