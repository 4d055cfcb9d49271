"""`lorweb mix` and `bake`, and the coefficient files between them, on tiny random models."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from lorweb.basis.bare import load_bare
from lorweb.basis.inject import basis_layers
from lorweb.basis.mix_files import load_mix, read_mix
from lorweb.basis.mixes import mix_hash
from tests.cli_cases import IMAGES, file_sha256, pixels, run
from tests.kontext_tiny import drawn_image
from tests.model_tiny import save_model


@pytest.mark.slow
def test_coefficient_files_stand_in_for_the_router_and_add_up(folder, model, capsys):
    base = ("a.png", "a2.png", "b.png")
    assert run(capsys, "mix", *base, "-o", "m.safetensors", "--model", str(model))[0] == 0
    run(capsys, "apply", *base, "-o", "plain.png", "--model", str(model))
    run(capsys, "apply", *base, "-o", "mixed.png", "--model", str(model), "--mix", "m.safetensors")
    assert np.abs(pixels(Path("plain.png")) - pixels(Path("mixed.png"))).max() <= 1
    run(
        capsys,
        "apply",
        *base,
        "-o",
        "none.png",
        "--model",
        str(model),
        "--mix",
        "m.safetensors:1",
        "--mix",
        "m.safetensors:-1",
    )
    run(capsys, "apply", *base, "-o", "zero.png", "--model", str(model), "--strength", "0")
    assert np.abs(pixels(Path("none.png")) - pixels(Path("zero.png"))).max() <= 1
    assert np.abs(pixels(Path("plain.png")) - pixels(Path("zero.png"))).max() > 5


def test_a_mix_of_another_basis_is_refused_by_every_command(folder, model, parts, capsys):
    other = save_model(parts, folder / "other", seed=5)
    run(capsys, "mix", *IMAGES, "-o", "m.safetensors", "--model", str(model))
    made_on = read_mix(Path("m.safetensors")).basis_sha256
    expected = file_sha256(other / "basis.safetensors")
    assert made_on == file_sha256(model / "basis.safetensors") != expected
    for command in (("apply", *IMAGES, "-o", "o.png"), ("bake", "-o", "o.safetensors"), ("mix", "-o", "o.safetensors")):
        code, _, err = run(capsys, *command, "--mix", "m.safetensors", "--model", str(other))
        assert code == 1 and f"the basis {made_on}, but" in err and f"is {expected}" in err
        assert not list(folder.glob("o.*"))


@pytest.mark.slow
def test_several_pairs_and_queries_are_averaged(folder, model, capsys):
    for seed, name in enumerate(("c", "c,2", "d"), start=4):
        drawn_image(seed, 40, 40).save(folder / f"{name}.png")
    m = ("--model", str(model))
    singles = []
    for index, (a, a2, b) in enumerate([("a", "a2", "b"), ("a", "a2", "d"), ("c", "c,2", "b"), ("c", "c,2", "d")]):
        run(capsys, "mix", f"{a}.png", f"{a2}.png", f"{b}.png", "-o", f"{index}.safetensors", *m)
        singles.append(load_mix(Path(f"{index}.safetensors"), model / "basis.safetensors").numpy())
    command = ("mix", *IMAGES, "d.png", "--pair", "c.png,c,2.png", "-o", "all.safetensors")
    code, out, _ = run(capsys, *command, *m)
    mixed = read_mix(Path("all.safetensors"))
    assert code == 0 and out.startswith("all.safetensors: 20 layers x 3 LoRAs, ") and mix_hash(mixed.mix_LN) in out
    np.testing.assert_allclose(mixed.mix_LN.numpy(), np.mean(singles, axis=0), atol=1e-6)
    assert np.ptp(singles, axis=0).max() > 1e-3, "the images make no difference"
    assert mixed.facts["pairs"] == [["a.png", "a2.png"], ["c.png", "c,2.png"]]
    assert mixed.facts["queries"] == ["b.png", "d.png"] and mixed.facts["query_mode"] == "cat-aa'b"


def test_mix_keeps_scales_and_adds_files(folder, model, capsys):
    m = ("--model", str(model))
    run(capsys, "mix", *IMAGES, "-o", "m.safetensors", *m)
    whole = read_mix(Path("m.safetensors")).mix_LN.numpy()
    run(capsys, "mix", *IMAGES, "-o", "top.safetensors", "--keep", "1", "--keep-sum", "--scale", "-2", *m)
    top = read_mix(Path("top.safetensors"))
    assert (np.count_nonzero(top.mix_LN.numpy(), axis=1) == 1).all()
    assert (top.mix_LN.numpy().argmin(axis=1) == whole.argmax(axis=1)).all(), "softmax is positive, the factor is not"
    np.testing.assert_allclose(top.mix_LN.numpy().sum(axis=1), -2, atol=1e-5)
    assert (top.facts["keep"], top.facts["keep_sum"], top.facts["scale"]) == (1, True, -2.0)
    code, *_ = run(
        capsys, "mix", "--mix", "m.safetensors:0.5", "--mix", "top.safetensors:0.25", "-o", "sum.safetensors", *m
    )
    total = read_mix(Path("sum.safetensors"))
    assert code == 0
    np.testing.assert_allclose(total.mix_LN.numpy(), 0.5 * whole + 0.25 * top.mix_LN.numpy(), atol=1e-6)
    assert [parent["weight"] for parent in total.facts["parents"]] == [0.5, 0.25]
    assert total.facts["parents"][1]["keep"] == 1 and total.facts["base"] == top.facts["base"]


def test_bake_writes_a_lora_and_reports_the_loss_of_rank(folder, model, capsys):
    m = ("--model", str(model))
    code, out, _ = run(capsys, "bake", *IMAGES, "-o", "l.safetensors", "--rank", "1", *m)
    assert code == 0 and "rank 1" in out and "relative error 0." in out
    code, out, _ = run(capsys, "bake", *IMAGES, "-o", "exact.safetensors", *m)
    assert code == 0 and "rank 6, 20 layers, diffusers keys" in out and "relative error 0.0000 in all" in out
    assert "padded" not in out
    code, out, _ = run(capsys, "bake", *IMAGES, "-o", "p.safetensors", "--rank", "8", *m)
    assert code == 0 and "rank 6 is exact; the file is padded with zeros to rank 8" in out


def test_bake_refuses_a_rank_that_no_layer_can_have(folder, model, capsys):
    words = ("bake", *IMAGES, "-o", "l.safetensors", "--model", str(model), "--rank")
    code, _, err = run(capsys, *words, "99999999")
    most = max(
        min(layer.in_features, layer.out_features)
        for layer in basis_layers(load_bare(model / "basis.safetensors")).values()
    )
    assert code == 1 and err == (
        f"lorweb: --rank is 99999999, but no update of these layers has a rank above {most}; give 1 to {most}\n"
    )
    assert run(capsys, *words, str(most + 1))[0] == 1 and not Path("l.safetensors").exists()
    assert run(capsys, *words, str(most))[0] == 0


@pytest.mark.slow
def test_bake_takes_the_coefficients_of_a_file_and_writes_either_format(folder, model, capsys):
    m = ("--model", str(model))
    run(capsys, "mix", *IMAGES, "-o", "m.safetensors", *m)
    run(capsys, "bake", *IMAGES, "-o", "images.safetensors", *m)
    run(capsys, "bake", "--mix", "m.safetensors", "-o", "file.safetensors", *m)
    images, file = (load_file(f"{name}.safetensors") for name in ("images", "file"))
    assert len(images) == 40 and all(np.allclose(images[key], value, atol=1e-6) for key, value in file.items())
    code, out, _ = run(capsys, "bake", *IMAGES, "-o", "comfy.safetensors", "--format", "comfyui", *m)
    assert code == 0 and "comfyui keys" in out
    assert len(load_file("comfy.safetensors")) == 3 * (10 + 3)
    with safe_open("comfy.safetensors", "np") as opened:
        report = json.loads(opened.metadata()["lorweb_bake"])
    assert report["basis_sha256"] == file_sha256(model / "basis.safetensors") and report["format"] == "comfyui"
    assert report["mix"] == mix_hash(read_mix(Path("m.safetensors")).mix_LN)
