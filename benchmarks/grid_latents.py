"""What it changes to encode the 2x2 grid as one picture, as the method does, and not each image by itself.

python benchmarks/grid_latents.py [--vae FOLDER ...] [--side 128] [--json FILE] [--into FILE]

Real packaged pictures and edits of them, in grids [a, a'; b, b']; the packaged codec, any diffusers AutoencoderKL
folder, and random weights in the FLUX VAE's architecture at an eighth of its width, with and without its mid-block
attention: those two show the structure of the effect, not the size that trained weights give it. Relative L2 is of the
difference over the composed latents, as a whole and by distance from the nearest seam (0: the cell touches it).
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import _report
import numpy as np
import torch
from _table import publish
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from lorweb.data.decode import decode_rgb
from lorweb.data.readers.photos import PHOTOS, PhotosConfig, PhotosReader
from lorweb.kontext.grid import Size, compose, compose_latents, control_grid

MARKS = ("<!-- grid_latents -->", "<!-- /grid_latents -->")
DISTANCES = (0, 1, 2, 4, 8)
SMALL = 1e-3  # of the latents' standard deviation
TINY = Path(__file__).parents[1] / "lorweb" / "tiny" / "kontext" / "vae"
EDITS: tuple[Callable[[Image.Image], Image.Image], ...] = (
    ImageOps.invert,
    ImageOps.mirror,
    lambda image: ImageOps.grayscale(image).convert("RGB"),
    lambda image: image.filter(ImageFilter.GaussianBlur(3)),
)


def codecs(folders: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """The packaged codec, those of the folders, and two of random weights, each with a name."""
    from diffusers import AutoencoderKL

    from lorweb.tiny.codec import PatchCodec

    yield "packaged codec", PatchCodec.from_pretrained(str(TINY)).eval()
    for folder in folders:
        yield folder.name, AutoencoderKL.from_pretrained(str(folder), local_files_only=True).eval()
    for name, attention in (("FLUX architecture", True), ("FLUX architecture without attention", False)):
        torch.manual_seed(0)
        yield f"{name}, width 1/8, random weights", random_flux(attention).eval()


def random_flux(attention: bool) -> Any:
    """FLUX.1's VAE with an eighth of its channels: the same depth, kernels, groups per channel and mid block."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=2,
        norm_num_groups=8,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=attention,
    )


def analogies(side: int, count: int) -> list[tuple[Image.Image, ...]]:
    """(a, a', b, b') of `side` px from packaged photos; a and b are of two photos, edited alike."""
    crops = -(-2 * count // len(PHOTOS))
    reader = PhotosReader(PhotosConfig(reader="photos", crops=crops))
    places = sorted(reader.locations(), key=lambda place: (int(place.origin.rsplit(":", 1)[1]), place.origin))
    images = [decode_rgb(reader.read(place, side, 1 << 28)["image"], 1 << 28) for place in places[: 2 * count]]
    edits = [EDITS[i % len(EDITS)] for i in range(count)]
    return [(a, edit(a), b, edit(b)) for a, b, edit in zip(images[::2], images[1::2], edits, strict=True)]


@torch.no_grad()
def encoded(vae: Any, picture: Image.Image) -> Tensor:
    """The mode of the latents, [1, C, h, w]."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    found = vae.encode(pixels)
    z: Tensor = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
    return z


@torch.no_grad()
def decoded(vae: Any, z: Tensor) -> Tensor:
    """Pixels [3, H, W], 0..255."""
    pixels: Tensor = (vae.decode(z, return_dict=False)[0][0].clamp(-1, 1) + 1) * 127.5
    return pixels


def from_seam(size: Size) -> Tensor:
    """[2h, 2w]: cells between a cell and the nearest seam."""
    down, across = (torch.cat([torch.arange(n).flip(0), torch.arange(n)]) for n in (size.height, size.width))
    return torch.minimum(down[:, None], across[None, :])


def measure(name: str, vae: Any, found: Sequence[tuple[Image.Image, ...]]) -> dict[str, Any]:
    """One row: `ratio` is the relative L2, `low` and `high` its extremes over the analogies."""
    each, cells, pixels, seconds = [], [], [], np.zeros(2)
    encoded(vae, found[0][0])  # warm
    for a, a2, b, b2 in found:
        start = time.perf_counter()
        parts = [encoded(vae, image) for image in (a, a2, b, b2)]
        middle = time.perf_counter()
        whole = encoded(vae, compose(a, a2, b, b2))
        encoded(vae, control_grid(a, a2, b))
        seconds += np.array([middle - start, time.perf_counter() - middle])
        composed = compose_latents(*parts)
        difference = whole - composed
        differs = difference[0].abs().amax(0) > SMALL * composed.std()
        each.append(float(difference.norm() / composed.norm()))
        cells.append(torch.stack([difference[0].square().sum(0), composed[0].square().sum(0), differs.float()]))
        pixels.append(pixel_errors(vae, whole, parts[3], b2))
    d2, z2, share = torch.stack(cells).mean(0)
    distance = from_seam(Size(*(side // 2 for side in d2.shape)))
    rings = {d: distance == d for d in DISTANCES if bool((distance == d).any())}
    between, alone, grid = (float(value) for value in np.mean(pixels, 0))
    size = 2 * parts[3].numel()  # bytes of a quadrant in float16
    return {
        "name": name,
        "rival": "quadrants composed",
        "ratio": float((d2.sum() / z2.sum()).sqrt()),
        "low": min(each),
        "high": max(each),
        "unit": "relative L2",
        "n": len(found),
        "by_distance": {str(d): float((d2[ring].sum() / z2[ring].sum()).sqrt()) for d, ring in rings.items()},
        "share_different": float(share.mean()),
        "pixels": {"between": between, "codec_quadrant": alone, "codec_grid": grid},
        "seconds_per_1000": dict(zip(("quadrant", "grid"), (1000 * seconds / len(found)).tolist(), strict=True)),
        "bytes_per_1000": {"quadrant": 4000 * size, "grid": 8000 * size},
    }


def pixel_errors(vae: Any, whole: Tensor, own: Tensor, b2: Image.Image) -> tuple[float, float, float]:
    """Mean absolute differences in b', 0..255: between the two ways, and of each from the true picture."""
    shown = decoded(vae, whole)
    grid = shown[:, shown.shape[1] // 2 :, shown.shape[2] // 2 :]
    alone, truth = decoded(vae, own), torch.from_numpy(np.array(b2)).permute(2, 0, 1).float()
    return tuple(float((x - y).abs().mean()) for x, y in ((grid, alone), (alone, truth), (grid, truth)))  # type: ignore[return-value]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as tables, with the command and the machine that gave them."""
    rings = list(dict.fromkeys(d for row in rows for d in row["by_distance"]))
    lines = [
        "| codec | relative L2 | least – most | " + " | ".join(f"at {d}" for d in rings) + " | cells that differ |",
        "|---" * (4 + len(rings)) + "|",
    ]
    for row in rows:
        near = " | ".join(f"{row['by_distance'][d]:.2g}" if d in row["by_distance"] else "" for d in rings)
        lines.append(
            f"| {row['name']} | {row['ratio']:.2g} | {row['low']:.2g} – {row['high']:.2g} | {near} | "
            f"{row['share_different']:.1%} |"
        )
    lines += [
        "\n| codec | b' between the two | by quadrant to the truth | by grid to the truth | s, quadrant | s, grid | "
        "MB, quadrant | MB, grid |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        shown = " | ".join(f"{value:.2f}" for value in row["pixels"].values())
        cost = " | ".join(f"{value:.1f}" for value in row["seconds_per_1000"].values())
        stored = " | ".join(f"{value / 1e6:.1f}" for value in row["bytes_per_1000"].values())
        lines.append(f"| {row['name']} | {shown} | {cost} | {stored} |")
    return "\n".join([*lines, "", f"Measured by `{rows[0]['command']}` on {rows[0]['machine']}"])


def main(argv: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--vae", type=Path, nargs="*", default=[], help="folders that AutoencoderKL.save_pretrained wrote"
    )
    options.add_argument("--side", type=int, default=128, help="px of a quadrant, a multiple of 16")
    options.add_argument("--count", type=int, default=6, help="analogies")
    options.add_argument("--json", type=Path, help="write the results there")
    options.add_argument("--into", type=Path, help="a Markdown file with the marks, for the tables")
    given = options.parse_args(argv)
    found = analogies(given.side, given.count)
    command = f"python benchmarks/grid_latents.py --side {given.side} --count {given.count}"
    command += f" --vae {' '.join(path.name for path in given.vae)}" if given.vae else ""
    machine = _report.machine()
    rows = [{**measure(name, vae, found), "machine": machine, "command": command} for name, vae in codecs(given.vae)]
    publish(rows, markdown(rows), given, MARKS)


if __name__ == "__main__":
    main()
