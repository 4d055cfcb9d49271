"""A whole plan: what a profile would train, and what that takes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lorweb.config import Params
from lorweb.kontext.load import Defaults, read_defaults, resolve
from lorweb.plan import disk
from lorweb.plan.devices import device
from lorweb.plan.fit import Fit, Question, fits
from lorweb.plan.flops import StepTime, step_time, work
from lorweb.plan.memory import Memory, memory
from lorweb.plan.model import TEXT_OF_KONTEXT, VAE_OF_KONTEXT, Model, Others, read_model, read_others
from lorweb.plan.setting import Setting, Tokens, read_setting
from lorweb.sizes import meta_transformer, own_config

SIZES: Final = (24e9, 48e9, 80e9)
"""Bytes of the devices that `Plan.fits` is about: N GB are N * 10^9 bytes, of which real cards have a little more."""
_TOKEN: Final = 2 * disk.CELL  # px of a quadrant that become one token
_SPLITS: Final = 2  # seen and unseen


@dataclass(frozen=True)
class Given:
    """What the parameters do not say: the device, the share of its peak that is reached, and how much is encoded.

    images, instructions: None asks for the upper bound that the parameters allow.
    """

    gpu: str
    utilisation: float
    images: int | None
    instructions: int | None

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"mfu is {self.utilisation}; it is a share of the device's peak, above 0 and at most 1")
        device(self.gpu)


@dataclass(frozen=True)
class Plan:
    """What training takes per worker, in bytes, seconds and hours; `hours` have validation in them."""

    base: str
    given: Given
    setting: Setting
    tokens: Tokens
    model: Model
    memory: Memory
    time: StepTime
    validation_seconds: float  # of one validation with its sheet
    hours: Mapping[str, float]
    rows: disk.Rows
    disk: Mapping[str, int]
    host: Mapping[str, int]
    encode_bytes: int  # of the encode stage on its device: the whole pipeline's weights
    fits: tuple[Fit, ...]  # none for training on a CPU

    def tree(self) -> dict[str, Any]:
        """Everything as JSON values."""
        found = asdict(self)
        del found["model"]["linears"]
        del found["model"]["router_tensors"]
        found["model"] |= {"adapters": self.model.adapters, "trained": self.model.trained}
        found["memory"] |= {"peak": self.memory.peak, "peak_phase": self.memory.peak_phase}
        found["time"] |= {"seconds": self.time.seconds, "steps_per_second": 1 / self.time.seconds}
        return found


def make_plan(base: str, params: Params, given: Given) -> Plan:
    """Plan the training that `params` describe on a base ("tiny", a folder, a hub id); no weights are read or fetched.

    Raises:
        FileNotFoundError, ValueError: see `lorweb.sizes.meta_transformer` and `query_width`, and `Given`.
    """
    transformer, basis = meta_transformer(base), own_config(params)
    local = is_here(base)
    others = read_others(resolve(base)) if local else Others(VAE_OF_KONTEXT, TEXT_OF_KONTEXT)
    defaults = read_defaults(resolve(base)) if local else Defaults()
    model = read_model(transformer, basis, others)
    setting, tokens = read_setting(params.train), token_counts(params.encode.quadrant, defaults.max_sequence_length)
    on = device(given.gpu)
    time = step_time(model, setting, tokens, on, given.utilisation)
    rows = _rows(params, given)
    encoded = disk.encoded_bytes(rows, model, tokens, params)
    found = memory(model, setting, tokens)
    question = Question(model, tokens, on, given.utilisation)
    look = _validation_seconds(params, question, defaults)
    return Plan(
        base=base,
        given=given,
        setting=setting,
        tokens=tokens,
        model=model,
        memory=found,
        time=time,
        validation_seconds=look,
        hours=_hours(params, time.seconds, look),
        rows=rows,
        disk=encoded | disk.checkpoint_bytes(model, setting, params),
        host={"encoded data": disk.host_bytes(encoded), **found.host},
        encode_bytes=(model.base_values + others.vae + others.text) * (2 if params.encode.pool.gpus else 4),
        fits=tuple(fits(question, setting, SIZES)) if setting.cuda else (),
    )


def is_here(base: str) -> bool:
    """Whether a base's name is the packaged one or a folder, so that looking at it fetches nothing."""
    return base == "tiny" or Path(base).expanduser().is_dir()


def token_counts(quadrant: int, text: int) -> Tokens:
    """A quadrant of q px has (q / 16)^2 tokens; the noisy and the control grid have four quadrants each."""
    return Tokens(2 * 4 * (quadrant // _TOKEN) ** 2, text)


def _rows(params: Params, given: Given) -> disk.Rows:
    most = disk.most_rows(params)
    if given.images is None and given.instructions is None:
        return most
    images = most.images if given.images is None else given.images
    texts = most.instructions if given.instructions is None else given.instructions
    return disk.Rows(images, texts, most.grids, given.images is None or given.instructions is None)


def _validation_seconds(params: Params, question: Question, defaults: Defaults) -> float:
    """Forwards over both splits, once as they are and once for each ablation, shared by the workers; and a sheet, whose
    rows are denoised by one worker.
    """
    train, on = params.train, question.device
    peak = on.bfloat16 if train.precision == "bfloat16" else on.float32
    one = work(question.model, question.tokens, 1).forward / (peak * question.utilisation)
    looked_at = _SPLITS * train.validation_analogies * (1 + len(train.ablations)) / train.workers
    return one * (looked_at + train.sheet_rows * defaults.num_inference_steps)


def _hours(params: Params, seconds: float, look: float) -> dict[str, float]:
    train = params.train
    looks = -(-train.steps // train.validate_every) + 1
    one = (train.steps * seconds + looks * look) / 3600
    variants = 1 + len(train.baselines)
    gpus = train.workers * train.gpus_per_worker
    return {
        "one variant": one,
        "all variants": one * variants,
        "GPU-hours of one variant": one * gpus,
        "GPU-hours of all variants": one * variants * gpus,
    }
