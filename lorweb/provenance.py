"""How a picture was made, written into it: the PNG text chunk `lorweb`, one JSON object that `lorweb reproduce` and
`lorweb trace` read.

Whatever draws (command, server, demo) puts it together from `settings`, `model_facts` (once per model), `surroundings`
(once per run) and `input_facts`, and writes it by `png_with_facts`. Paths are in it where a person typed them, or where
a model's metadata name its base or encoder by one; of images only the files' names.
"""

import hashlib
import importlib.metadata
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorweb.serving.address import SCHEME, Address

if TYPE_CHECKING:
    from PIL import Image

    from lorweb.kontext.pipeline import AnalogyPipeline

CHUNK: Final = "lorweb"
SERVED: Final = "a served model"  # where it lies is the server's affair; its hashes say which it is
MAX_CHUNK: Final = 1_000_000  # characters: an honest recipe has about a thousand
PROMOTED: Final = "promoted.json"  # beside a project's models: what the last promotion said
_LIBRARIES: Final = ("torch", "diffusers", "transformers")


def png_with_facts(image: "Image.Image", facts: Mapping[str, Any]) -> bytes:
    """The image as a PNG file that carries `facts` (JSON values); equal pixels and facts are equal bytes."""
    from PIL.PngImagePlugin import PngInfo

    info, png = PngInfo(), io.BytesIO()
    info.add_text(CHUNK, json.dumps(facts, sort_keys=True))
    image.save(png, "PNG", pnginfo=info)
    return png.getvalue()


def read_facts(path: Path) -> dict[str, Any]:
    """What `png_with_facts` wrote into a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a PNG, without the chunk, or the chunk holds no JSON object.
    """
    from PIL import Image

    from lorweb.config_errors import parsed_json
    from lorweb.kontext.images import UNDECODABLE

    if not path.is_file():
        raise FileNotFoundError(f"no image at {path}")
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()  # the chunk may stand behind the pixels
            text = getattr(image, "text", {}).get(CHUNK)
    except (Image.DecompressionBombError, *UNDECODABLE) as error:
        raise ValueError(f"{path} is not a PNG that can be read ({error}); give one that lorweb wrote") from error
    if text is None:
        raise ValueError(
            f"{path} does not say how it was made: it has no text chunk '{CHUNK}'. Give a PNG as lorweb wrote it; "
            "other programs drop the chunk when they save"
        )
    if len(text) > MAX_CHUNK:
        raise ValueError(f"{path} has a text chunk '{CHUNK}' of {len(text)} characters, which lorweb never writes")
    found = parsed_json(text, f"{path}: the text chunk '{CHUNK}'")
    if not isinstance(found, dict):
        raise ValueError(f"{path}: the text chunk '{CHUNK}' holds no JSON object; give a PNG as lorweb wrote it")
    return found


def pixel_hash(image: "Image.Image") -> str:
    """sha256 over size and RGB values: the same for every lossless copy of a picture, whatever the file is called."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}|".encode() + rgb.tobytes()).hexdigest()


def input_facts(images: Mapping[str, "Image.Image"], names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """{a, a2, b: its pixels' hash, and its file's name where it has one}; the images are upright RGB (`as_rgb`)."""
    return {
        key: {"pixels_sha256": pixel_hash(image), **({"name": names[key]} if key in names else {})}
        for key, image in images.items()
    }


def surroundings(pipe: "AnalogyPipeline", offload: str) -> dict[str, Any]:
    """What besides settings, inputs and model decides the bytes: base, encoder, device, dtype, libraries, threads."""
    import torch

    import lorweb

    device = pipe.base.device
    card = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {
        "base": pipe.base.name,
        "base_revision": pipe.base.revision,
        "encoder": "" if pipe.encoder is None else pipe.encoder.name,
        "encoder_revision": "" if pipe.encoder is None else pipe.encoder.revision,
        "device": device.type,
        **card,
        "dtype": str(pipe.base.dtype).removeprefix("torch."),
        "offload": offload,
        "fold": pipe.fold,
        "threads": torch.get_num_threads(),
        "versions": {"lorweb": lorweb.__version__, **libraries},
    }


def facts_of_one(
    settings: Mapping[str, Any], around: Mapping[str, Any], images: Mapping[str, "Image.Image"], mix: str | None
) -> dict[str, Any]:
    """Facts of a picture that was drawn by itself, as a server or a page draws: `lorweb reproduce` takes it.

    Args:
        settings: prompt, steps, guidance, seed, strength; all as they were used, none left to the model.
        around: `model_facts` and `surroundings`.
        images: a, a2, b as upright RGB.
        mix: hash of the coefficients, None for internal queries.
    """
    return facts_of(settings, around, input_facts(images, {}), [0, 1], mix)


def facts_of(
    settings: Mapping[str, Any],
    around: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, str]],
    batch: list[int],
    mix: str | None,
) -> dict[str, Any]:
    """Facts of any picture, as `facts_of_one`. `inputs`: of `input_facts`; `batch`: [place in it, its size]."""
    return {"mixes": [], **settings, **around, "inputs": dict(inputs), "batch": batch, "mix": mix}


def model_facts(model: str, basis: Path) -> dict[str, Any]:
    """Which model it was: as asked for, its version where a registry has it, hashes of its bytes, its lineage key.

    An alias moves, also after the model was loaded, so that the version with these very bytes is what is written down.
    """
    from lorweb.data.manifest import file_sha256

    content = model_content(basis.parent)
    registered = model.startswith(SCHEME)
    version, key = _registered(model, content) if registered else (None, local_lineage(basis.parent, content))
    return {
        "model": model,
        **({"model_version": version} if version else {}),
        "basis_sha256": file_sha256(basis),
        "content_sha256": content,
        **({"lineage_key": key["lineage_key"]} if key.get("lineage_key") else {}),
    }


def model_content(folder: Path) -> str:
    """The content hash of a model folder, as the registry knows versions by; "" where it has no metadata.json."""
    from lorweb.serving.artifacts import content_hash

    try:
        return content_hash(folder)
    except FileNotFoundError:
        return ""


def local_lineage(folder: Path, content: str) -> dict[str, str]:
    """Lineage of a model folder of a project, as its last promotion wrote it; empty where that was of another model."""
    path = folder.parent / PROMOTED
    if not content or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["lineage"]
    except (ValueError, KeyError, TypeError):
        return {}
    return dict(found) if isinstance(found, dict) and found.get("content_sha256") == content else {}


def _registered(uri: str, content: str) -> tuple[str | None, dict[str, str]]:
    """(URI with the version's number, tags) of the registered model that has this content."""
    from lorweb.serving.registry import Registry

    address = Address.of(uri)
    if address is None or (address.number is None and not content):
        return None, {}
    registry = Registry(address.name)
    if address.number is not None:
        same = [registry.by_number(address.number)]
    else:  # several where a damaged version gave way to the same bytes: the one that was meant, or the latest
        same = [version for version in registry.versions() if version.content == content]
    version = max(same, key=lambda one: (address.alias in one.aliases, one.number), default=None)
    return (str(Address(address.name, number=version.number)), version.tags) if version else (None, {})
