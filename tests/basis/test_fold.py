"""One analogy as a plain LoRA: PEFT and diffusers are the oracles."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from lorweb.basis import analogy, basis_layers, mix
from lorweb.basis.fold import bake
from lorweb.basis.low_rank import truncate
from tests.basis.cases import config, queries, run, trained
from tests.tiny import bare_pipeline, tiny_inputs, tiny_transformer

SETTINGS = config()


@pytest.fixture
def model() -> Any:
    made = tiny_transformer(0)
    trained(made, SETTINGS)
    return made


def test_outputs_and_gradients_are_those_of_a_peft_lora(model: Any) -> None:
    """The oracle: with a fixed query the basis is a stock PEFT LoRA of rank N*r, alpha N*r."""
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict

    e_BLN = mix(model, queries(1, SETTINGS)).detach()
    baked, names = bake(model, e_BLN), list(basis_layers(model))
    K = SETTINGS.total_rank
    settings = LoraConfig(r=K, lora_alpha=K, target_modules=names, lora_dropout=0.0, bias="none")
    theirs = inject_adapter_in_model(settings, tiny_transformer(0))
    plain = {key.removeprefix("transformer."): value for key, value in baked.state_dict.items()}
    assert get_peft_model_state_dict(theirs).keys() == plain.keys(), "PEFT wrapped other layers"
    assert not set_peft_model_state_dict(theirs, plain).unexpected_keys
    inputs = tiny_inputs(2, 8)
    reference = theirs(**inputs).sample
    reference.square().mean().backward()
    with analogy(model, mix=e_BLN):
        ours = model(**inputs).sample
        ours.square().mean().backward()
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(reference, model(**inputs).sample, atol=1e-2), "the update is too small to tell"
    for index, (name, layer) in enumerate(basis_layers(model).items()):
        e_K = e_BLN[0, index].repeat_interleave(SETTINGS.rank)
        peft = theirs.get_submodule(name)
        # their B is e * B: d/dB = e * d/d(their B); A is the same on both sides
        torch.testing.assert_close(layer.B.grad, peft.lora_B["default"].weight.grad * e_K, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(layer.A.grad, peft.lora_A["default"].weight.grad, rtol=1e-3, atol=1e-6)


def test_the_file_loads_with_diffusers(model: Any, tmp_path: Path) -> None:
    query_BQ = queries(1, SETTINGS)
    with analogy(model, query_BQ):
        expected = run(model)
    baked = bake(model, query_BQ)
    baked.save(tmp_path / "lora.safetensors")
    stock = tiny_transformer(0)
    before = run(stock)
    pipe = bare_pipeline(stock)
    pipe.load_lora_weights(tmp_path / "lora.safetensors", adapter_name="analogy")
    torch.testing.assert_close(run(stock), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, expected, atol=1e-2)
    pipe.set_adapters(["analogy"], [0.5])
    with analogy(model, query_BQ, strength=0.5):
        torch.testing.assert_close(run(stock), run(model), rtol=1e-4, atol=1e-5)
    with safe_open(tmp_path / "lora.safetensors", "pt") as file:
        report = json.loads(file.metadata()["lorweb_bake"])
    assert report["rank"] == report["alpha"] == SETTINGS.total_rank and report["total_error"] == 0.0


def test_a_query_and_its_mix_bake_alike_and_leave_the_model_alone(model: Any) -> None:
    query_BQ = queries(1, SETTINGS)
    expected = bake(model, query_BQ)
    for given in (query_BQ[0], mix(model, query_BQ), mix(model, query_BQ)[0]):
        again = bake(model, given)
        assert all(torch.equal(again.state_dict[k], v) for k, v in expected.state_dict.items())
    key = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight"
    expected.state_dict[key].zero_()
    assert basis_layers(model)["transformer_blocks.0.attn.to_q"].A.any(), "the bake shares memory with the basis"


@pytest.mark.parametrize("rank", [1, 3, 8, 11])
def test_a_lower_rank_reports_the_error_it_makes(model: Any, rank: int) -> None:
    exact, short = bake(model, queries(1, SETTINGS)), bake(model, queries(1, SETTINGS), rank)
    lost = norm = 0.0
    for name in basis_layers(model):
        A, B = (f"transformer.{name}.lora_{x}.weight" for x in "AB")
        assert short.state_dict[A].shape[0] == short.state_dict[B].shape[1] == rank
        dW = exact.state_dict[B].double() @ exact.state_dict[A].double()
        gone = dW - short.state_dict[B].double() @ short.state_dict[A].double()
        tail = torch.linalg.svdvals(dW)[rank:].square().sum().sqrt()
        assert abs(short.errors[name] - float(gone.norm() / dW.norm())) < 1e-5
        assert abs(float(gone.norm() - tail)) < 1e-5 * float(dW.norm()), "not the best of its rank"
        lost, norm = lost + float(gone.square().sum()), norm + float(dW.square().sum())
    assert abs(short.total_error - (lost / norm) ** 0.5) < 1e-5
    assert (short.total_error > 0.1) == (rank < SETTINGS.total_rank)


def test_narrow_layers_and_zero_updates_truncate_too() -> None:
    A, B = torch.randn(8, 5), torch.randn(3, 8)
    A4, B4, lost, norm = truncate(A, B, 4)
    torch.testing.assert_close(B4 @ A4, B @ A, rtol=1e-4, atol=1e-5)
    assert lost < 1e-9 * norm and not A4[3:].any()
    *_, lost, norm = truncate(A, torch.zeros(3, 8), 2)
    assert lost == norm == 0.0


def test_atoms_that_cancel_keep_their_digits() -> None:
    """|B A| is 1e-5 of |B| |A| here: QR in float32 would leave two or three correct digits."""
    generator = torch.Generator().manual_seed(0)
    A, B = torch.randn(4, 40, generator=generator), torch.randn(50, 4, generator=generator)
    A_KI = torch.cat([A, A * (1 + 1e-5 * torch.randn(4, 40, generator=generator))])
    B_OK = torch.cat([B, -B], dim=1)
    dW = B_OK.double() @ A_KI.double()
    U, s, Vh = torch.linalg.svd(dW)
    A2, B2, lost, norm = truncate(A_KI, B_OK, 2)
    best = (U[:, :2] * s[:2]) @ Vh[:2]
    assert float((B2.double() @ A2.double() - best).norm() / dW.norm()) < 1e-5
    assert abs((lost / norm) ** 0.5 - float(s[2:].norm() / s.norm())) < 1e-7


def test_progress_follows_every_layer(model: Any) -> None:
    seen: list[tuple[int, int]] = []
    bake(model, queries(1, SETTINGS), progress=lambda done, layers: seen.append((done, layers)))
    assert seen == [(done, 26) for done in range(1, 27)]


def test_an_untrained_basis_bakes_to_nothing() -> None:
    model = tiny_transformer(0)
    trained(model, SETTINGS)
    for layer in basis_layers(model).values():
        layer.B.data.zero_()
    baked = bake(model, queries(1, SETTINGS), rank=2)
    assert baked.total_error == 0.0 and not any(v.any() for k, v in baked.state_dict.items() if "lora_B" in k)
