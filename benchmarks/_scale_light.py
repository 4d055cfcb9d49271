"""What a profile's models take per row: FLOPs counted by `lorweb.plan` and torch's own counter, bytes by `lorweb.plan`.

Counting loads no weights, but imports torch and diffusers; so counts are kept in benchmarks/results/scale/.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

from lorweb.config import Params

VIT_L: Final = (24, 1024, 257, 303_966_208)  # CLIP ViT-L/14 at 224 px: blocks, width, tokens, values of the tower
CLIP_TEXT: Final = (12, 768, 77, 123_060_480)
DINO_B: Final = (12, 768, 257, 86_580_480)
_TEXT: Final = 512  # tokens


@dataclass(frozen=True)
class Light:
    """FLOPs of a row, and bytes. `edit`: all steps on one image, both ways through the VAE in it."""

    edit: float
    vae_encode: float  # of one image
    clip_image: float
    clip_text: float
    dino_image: float
    text: float  # of one instruction: T5-XXL
    answer: float  # of one evaluated analogy by one model: all steps on the grid, with a basis
    train_hours: float  # GPU-hours of all variants, validation in them, at `utilisation`
    train_gpus: int
    utilisation: float
    image_bytes: int  # latents and features, as stored
    text_bytes: int
    host_image_bytes: int  # of the same in a training worker's memory
    host_text_bytes: int
    model_bytes: int  # weights of all variants, as they are published
    work_bytes: int  # below .work/train: checkpoints of all variants, each over an older one, and their weights again


def vit(blocks: int, width: int, tokens: int, values: int) -> float:
    """FLOPs of one forward: two a value and token, and attention."""
    return 2.0 * values * tokens + 4.0 * blocks * width * tokens**2


def count(params: Params, gpu: str, utilisation: float) -> Light:
    """Count for a profile whose base is FLUX.1-Kontext."""
    from lorweb.plan.disk import Rows, encoded_bytes, host_bytes
    from lorweb.plan.flops import work
    from lorweb.plan.report import Given, make_plan
    from lorweb.plan.setting import Tokens

    plan = make_plan(params.encode.base, params, Given(gpu, utilisation, 0, 0))
    editor: Any = next(entry for entry in params.generate.editors if entry.editor == "kontext")
    one = work(plan.model, Tokens(2 * (editor.side // 16) ** 2, _TEXT), 1)
    grid = work(plan.model, plan.tokens, 1)
    encode, decode = vae_flops(editor.side)
    stored = [encoded_bytes(Rows(*rows, 0, False), plan.model, plan.tokens, params) for rows in ((1, 0), (0, 1))]
    variants = 1 + len(params.train.baselines)
    weights = plan.disk["published weights"] // 2  # which counts them twice, in .work/train as well
    return Light(
        edit=editor.num_inference_steps * (one.base + one.attention) + encode + decode,
        vae_encode=vae_flops(params.encode.quadrant)[0],
        clip_image=vit(*VIT_L),
        clip_text=vit(*CLIP_TEXT),
        dino_image=vit(*DINO_B),
        text=2.0 * plan.model.others.text * _TEXT,
        answer=params.evaluate.num_inference_steps * grid.forward,
        train_hours=plan.hours["GPU-hours of all variants"],
        train_gpus=params.train.workers,
        utilisation=utilisation,
        image_bytes=sum(stored[0].values()),
        text_bytes=sum(stored[1].values()),
        host_image_bytes=host_bytes(stored[0]),
        host_text_bytes=host_bytes(stored[1]),
        model_bytes=variants * weights,
        work_bytes=variants * (plan.disk["checkpoints"] + weights),
    )


def vae_flops(side: int) -> tuple[float, float]:
    """FLUX.1's VAE to and from latents of one square image, by torch's own counter on the meta device."""
    import torch
    from diffusers import AutoencoderKL
    from torch.utils.flop_counter import FlopCounterMode

    widths = (128, 256, 512, 512)
    with torch.device("meta"):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=widths,
            layers_per_block=2,
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        found = []
        for part, shape in ((vae.encoder, (1, 3, side, side)), (vae.decoder, (1, 16, side // 8, side // 8))):
            with FlopCounterMode(display=False) as counter:
                part(torch.empty(shape))
            found.append(float(counter.get_total_flops()))
    return found[0], found[1]


def as_json(light: Light) -> dict[str, Any]:
    """For the results."""
    return asdict(light)
