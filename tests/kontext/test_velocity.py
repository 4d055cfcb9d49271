"""The one transformer call: what goes in, what is kept, and that batch sizes must agree."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from lorweb.kontext.grid import Size
from lorweb.kontext.model import Conditions, TextEmbedding, guidance_vector, velocity
from lorweb.kontext.tokens import positions
from tests.kontext_tiny import tiny_transformer

SIZE = Size(4, 6)
L = 6


@pytest.fixture(scope="module")
def transformer() -> Any:
    return tiny_transformer().requires_grad_(False)


def conditions(transformer: Any, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, Conditions]:
    torch.manual_seed(0)
    z, control = torch.randn(batch, L, 64), torch.randn(batch, L, 64)
    text = TextEmbedding(torch.randn(batch, 5, 32), torch.randn(batch, 32))
    given = Conditions(control, text, guidance_vector(transformer, 2.5, z), positions(SIZE, 5, z))
    return z, torch.linspace(0.3, 0.8, batch), given


def test_the_sequence_is_noisy_then_control_and_the_noisy_part_is_kept(transformer: Any) -> None:
    z, t, given = conditions(transformer)
    expected = transformer(
        hidden_states=torch.cat([z, given.control_BLD], 1),
        timestep=t,
        guidance=torch.tensor([2.5, 2.5]),
        pooled_projections=given.text.pooled_BP,
        encoder_hidden_states=given.text.prompt_BTE,
        txt_ids=torch.zeros(5, 3),
        img_ids=torch.tensor([[i, r, c] for i in (0, 1) for r in range(2) for c in range(3)]).float(),
    ).sample[:, :L]
    assert torch.equal(velocity(transformer, z, t, given), expected)


def test_every_condition_matters(transformer: Any) -> None:
    z, t, given = conditions(transformer)
    before = velocity(transformer, z, t, given)
    text = (
        replace(given.text, prompt_BTE=given.text.prompt_BTE + 1),
        replace(given.text, pooled_BP=given.text.pooled_BP + 1),
    )
    assert given.guidance_B is not None
    changes = [
        replace(given, control_BLD=given.control_BLD.flip(1)),
        replace(given, text=text[0]),
        replace(given, text=text[1]),
        replace(given, guidance_B=given.guidance_B + 1),
    ]
    for changed in changes:
        assert not torch.allclose(velocity(transformer, z, t, changed), before, atol=1e-5)
    assert not torch.allclose(velocity(transformer, z, t + 0.1, given), before, atol=1e-5)


def test_rows_of_a_batch_are_independent(transformer: Any) -> None:
    z, t, given = conditions(transformer)
    assert given.guidance_B is not None
    alone = Conditions(given.control_BLD[1:], given.text.rows([1]), given.guidance_B[1:], given.positions)
    torch.testing.assert_close(
        velocity(transformer, z[1:], t[1:], alone), velocity(transformer, z, t, given)[1:], atol=1e-5, rtol=1e-4
    )


def test_batch_sizes_must_agree(transformer: Any) -> None:
    z, t, given = conditions(transformer)
    assert given.guidance_B is not None
    wrong = [
        (z, t[:1], given),
        (z, t, replace(given, text=given.text.rows([0]))),
        (z, t, replace(given, guidance_B=given.guidance_B[:1])),
        (z, t, replace(given, control_BLD=given.control_BLD[:1])),
        (z[:1], t, given),
    ]
    for arguments in wrong:
        with pytest.raises(AssertionError, match="batch"):
            velocity(transformer, *arguments)
    with pytest.raises(AssertionError, match="grids differ"):
        velocity(transformer, z, t, replace(given, control_BLD=given.control_BLD[:, :3]))


def test_a_base_without_guidance_embedding_gets_none() -> None:
    plain = tiny_transformer(guidance_embeds=False)
    z, t, given = conditions(plain)
    assert given.guidance_B is None
    assert velocity(plain, z, t, given).shape == z.shape


def test_one_prompt_serves_a_batch_and_other_counts_are_refused() -> None:
    text = TextEmbedding(torch.randn(1, 5, 32), torch.randn(1, 32)).expand(3)
    assert len(text) == 3 and torch.equal(text.prompt_BTE[0], text.prompt_BTE[2])
    assert text.expand(3) is text
    with pytest.raises(ValueError, match="3 prompts for 2 images"):
        text.expand(2)
