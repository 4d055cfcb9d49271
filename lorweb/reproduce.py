"""A picture made again from what is written into it: `lorweb reproduce`.

The images have to be given, everything else is in the PNG. Whatever is not what it was is refused with both hashes
before anything is drawn; what may differ between machines (device, libraries, threads) is compared and told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorweb.applying import Drawer, combined, load_drawer
from lorweb.commands import model_file, model_name, read_image
from lorweb.config_errors import validated
from lorweb.kontext.metadata import BASIS_FILE
from lorweb.provenance import SERVED
from lorweb.recipe import MAY_DIFFER, Claims, Recipe, Side, claims_of

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

_MODEL: Final = ("base_revision", "encoder_revision")  # beside the basis, what has to be the same


@dataclass(frozen=True)
class Given:
    """What a PNG does not hold. `mixes`: coefficient files in the place of those it was made with; None looks for the
    same names. `model`: None takes the one that the PNG names.
    """

    images: Mapping[str, Path]  # a, a2, b
    mixes: list[str] | None = None
    model: str | None = None


@dataclass(frozen=True)
class Again:
    """A reproduction. `most`: largest difference of two values of 255; `share`: of the values that differ at all."""

    image: "Image.Image"
    facts: dict[str, Any]
    most: int
    share: float
    claims: Claims

    @property
    def same(self) -> bool:
        """Whether every pixel is as it was."""
        return self.most == 0


def reproduce(made: Path, given: Given) -> Again:
    """Draw `made` again.

    Raises:
        FileNotFoundError: an image, a coefficient file or the model is missing.
        ValueError: no PNG that lorweb wrote, or an image, the basis, the base, the encoder or the mix is another one.
    """
    import numpy as np

    from lorweb.provenance import read_facts

    facts = read_facts(made)
    inputs = facts["inputs"] if isinstance(facts.get("inputs"), dict) else {}
    told = facts | {key: inputs[key] for key in given.images if key in inputs}
    absent = [name for name, field in Recipe.model_fields.items() if field.is_required() and name not in told]
    if absent:
        raise ValueError(
            f"{made} does not say its {', '.join(absent)}: it was made by an older version of lorweb or by another "
            "program, and cannot be made again from what it says"
        )
    recipe = validated(Recipe, told, f"{made} cannot be made again: ")
    images = {key: read_image(path) for key, path in given.images.items()}
    _check_images(recipe, images, given.images)
    drawer = _model_of(recipe, given.model)
    image, mix = _draw(drawer, recipe, images, combined(given.mixes or recipe.mixes, drawer.basis))
    here: dict[str, Any] = {name: drawer.facts[name] for name in MAY_DIFFER if name in drawer.facts}
    now = {**facts, "mix": mix, **here}
    then_HWC, now_HWC = (np.asarray(picture).astype(int) for picture in (read_image(made), image))
    if then_HWC.shape != now_HWC.shape:
        raise ValueError(f"{made} has other sides than what it describes; its pixels were changed after it was made")
    distance = np.abs(then_HWC - now_HWC)
    names = {key: path.name for key, path in given.images.items()}
    claims = claims_of(facts, {**drawer.facts, "mix": mix, "model": None, **_loaded(recipe, given.model)}, names)
    return Again(image, now, int(distance.max()), float((distance > 0).mean()), claims)


def _loaded(recipe: Recipe, asked: str | None) -> dict[str, str]:
    """What the picture says of its model's name, where the model was found under it: its basis was compared."""
    if recipe.model == SERVED or (asked is None and not recipe.model_version):
        return {"model": recipe.model}
    return {"model": asked} if asked is not None else {"model_version": recipe.model_version}


def _check_images(recipe: Recipe, images: Mapping[str, "Image.Image"], paths: Mapping[str, Path]) -> None:
    from lorweb.provenance import pixel_hash

    for key, image in images.items():
        wanted: Side = getattr(recipe, key)
        found = pixel_hash(image)
        if wanted.pixels_sha256 != found:
            raise ValueError(
                f"{paths[key]} has the pixels {found}, but {key} had {wanted.pixels_sha256} ({wanted.name}); give the "
                "image it was made with"
            )


def _model_of(recipe: Recipe, asked: str | None) -> Drawer:
    """The model it was made with, loaded as it was then; its basis is looked at before the base is loaded."""
    from lorweb.data.manifest import file_sha256

    model, basis = _named(recipe, asked)
    found = file_sha256(basis)
    if found != recipe.basis_sha256:
        raise ValueError(
            f"{model} holds the basis {found}, but the picture was made with {recipe.basis_sha256}; give "
            "that one with --model, `lorweb trace` says where it is known"
        )
    drawer = load_drawer(str(basis), _offload_here(recipe.offload), recipe.fold)
    for name in _MODEL:
        if getattr(recipe, name) != drawer.facts[name]:
            raise ValueError(
                f"the picture was made with {name.replace('_', ' ')} {getattr(recipe, name)}, here it is "
                f"{drawer.facts[name]}; give the same base and encoder"
            )
    return drawer


def _named(recipe: Recipe, asked: str | None) -> tuple[str, Path]:
    """(the model's name, its basis file). What a server or a page drew names no model: it is looked for by its hash."""
    from lorweb.trace.models import Models

    name = asked or recipe.model_version or recipe.model
    if name != SERVED:
        return model_name(name), model_file(name)
    models = Models(Path(), "lorweb")
    found = models.by_hash(recipe.basis_sha256, recipe.content_sha256, [])
    if found is None:
        raise FileNotFoundError(
            f"a server or a page drew the picture, and no model with its basis {recipe.basis_sha256} is below models/ "
            f"or in the registry{''.join(f' ({note})' for note in models.notes)}; give it with --model"
        )
    return str(found.folder), found.folder / BASIS_FILE


def _offload_here(offload: str) -> str:
    """Where weights rest does not change what is computed, and a machine without an accelerator has no choice."""
    import torch

    return offload if torch.cuda.is_available() else "none"


def _draw(
    drawer: Drawer, recipe: Recipe, images: Mapping[str, "Image.Image"], given: "Tensor | None"
) -> tuple["Image.Image", str | None]:
    """b' and the hash of its mix. It is drawn in a batch of the same size, at the same place."""
    from lorweb.basis.mixes import mix_hash
    from lorweb.kontext.denoise import Sampling
    from lorweb.kontext.request import Request

    if given is not None and mix_hash(given) != recipe.mix:
        raise ValueError(
            f"the coefficient files give the mix {mix_hash(given)}, but the picture was made with {recipe.mix}; give "
            f"what it was made with as --mix: {', '.join(recipe.mixes) or 'no file, so leave --mix out'}"
        )
    place, size = recipe.batch
    if place >= size:
        raise ValueError(f"the picture says that it was number {place} of {size}; its metadata were changed")
    pipe = drawer.pipe
    pipe.batch_size = size
    request = Request(Sampling(recipe.steps, recipe.guidance), recipe.prompt, recipe.seed, recipe.strength, given)
    answer = list(pipe.stream(images["a"], images["a2"], [images["b"]] * size, request))[place]
    return answer.image, None if answer.mix_LN is None else mix_hash(answer.mix_LN)
