"""Places and offload: what a saved model is loaded into, and what is refused."""

from pathlib import Path

import pytest
import torch

from lorweb.basis import add_basis
from lorweb.kontext.load import Base, load_base
from lorweb.kontext.pipeline import AnalogyPipeline
from lorweb.kontext.place import Offload, Place
from lorweb.kontext.pretrained import read_parts
from tests.kontext.made import A2, CONFIG, A, same, save_model
from tests.kontext.offload_cases import CPU, OFFLOADS, RULE, B, pipeline, plain_cpu
from tests.kontext_tiny import PixelEncoder


@pytest.mark.slow
@pytest.mark.parametrize("offload", OFFLOADS)
def test_a_saved_model_is_loaded_into_offload(base_folder: Path, tmp_path: Path, offload: Offload) -> None:
    plain = pipeline(base_folder, "none")
    folder = save_model(plain.base, tmp_path / "model")
    fresh = load_base(str(base_folder), torch.float32, CPU)
    for given in (None, fresh):
        parts = read_parts(folder, given, PixelEncoder(), Place(CPU, torch.float32, offload))
        plain_cpu(parts.base)
        assert hasattr(parts.base.transformer, "_hf_hook") and (given is None or parts.base is given)
        loaded = AnalogyPipeline(parts.base, parts.encoder, parts.config, RULE)
        assert same(loaded(A, A2, B).images[0], plain(A, A2, B).images[0])


def test_a_base_that_is_offloaded_layer_by_layer_takes_no_basis(base_folder: Path, tmp_path: Path) -> None:
    folder = save_model(pipeline(base_folder, "none").base, tmp_path / "model")
    away = load_base(str(base_folder), torch.float32, CPU)
    away.pipeline.enable_sequential_cpu_offload(device=CPU)
    with pytest.raises(ValueError, match="a basis cannot be added; give the base as it was loaded"):
        AnalogyPipeline.from_pretrained(folder, away, PixelEncoder(), CPU)


def test_a_place_has_defaults_and_refuses_what_is_none() -> None:
    with pytest.raises(ValueError, match="offload is 'disk'; use one of none, model, sequential"):
        Place.of(None, None, "disk")  # type: ignore[arg-type]
    assert Place.of("cuda:1", None, "model") == Place("cuda:1", torch.bfloat16, "model")
    assert Place.of("cuda:1", None, "model").loading == "cpu" and Place.of("cuda:1", None, "none").loading == "cuda:1"
    assert Place.of("cpu", None, "none") == Place("cpu", torch.float32, "none")
    assert Place.of("cpu", torch.bfloat16, "none").dtype == torch.bfloat16


def test_without_an_accelerator_offload_says_so(tmp_path: Path, base: Base) -> None:
    add_basis(base.transformer, CONFIG, seed=0)
    folder = save_model(base, tmp_path / "model")
    for offload in OFFLOADS:
        with pytest.raises(ValueError, match=f"offload '{offload}' keeps weights in main memory until an accelerator"):
            AnalogyPipeline.from_pretrained(folder, encoder=PixelEncoder(), device=CPU, offload=offload)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="but the device is the CPU; use offload 'none'"):
            Place.of(None, None, "model")
