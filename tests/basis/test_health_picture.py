"""The picture of health: what is drawn is read back from its pixels."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from lorweb.basis import BLOCK_LINEARS, basis_layers, target_sizes
from lorweb.basis.health import Health, LayerHealth, health
from lorweb.basis.health_picture import DEAD, DOUBLE, LABEL, RAMP, TOP, colour, groups_of, health_picture
from tests.basis.cases import config, queries, trained, two_linears
from tests.tiny import tiny_transformer

SETTINGS = config()


@pytest.fixture(scope="module")
def measured() -> Health:
    """Of a tiny FLUX: 26 layers of 4 atoms."""
    model = tiny_transformer(0)
    trained(model, SETTINGS)
    return health(model, queries(10, SETTINGS))


def pixels(found: Health) -> np.ndarray:
    return np.asarray(health_picture(found))


def count(found: Health, wanted: tuple[int, int, int]) -> int:
    return int((pixels(found) == wanted).all(-1).sum())


def changed(found: Health, name: str, **changes) -> Health:
    return replace(found, layers={**found.layers, name: replace(found.layers[name], **changes)})


def grey(rgb) -> float:
    return float(np.dot(np.asarray(rgb, dtype=float), (0.299, 0.587, 0.114)))


def test_flux_falls_into_twenty_groups_by_depth() -> None:
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        names = list(target_sizes(FluxTransformer2DModel(guidance_embeds=True), BLOCK_LINEARS))
    groups = groups_of(names)
    assert sorted(name for group in groups for _, name in group.layers) == sorted(names) and len(names) == 494
    assert [group.block for group in groups] == ["transformer_blocks"] * 14 + ["single_transformer_blocks"] * 6
    assert {len(group.layers) for group in groups[:14]} == {19} and {len(group.layers) for group in groups[14:]} == {38}
    assert all([depth for depth, _ in group.layers] == list(range(len(group.layers))) for group in groups)
    first = {group.part: group.layers[10][1] for group in groups[:14]}
    assert first["attn.to_q"] == "transformer_blocks.10.attn.to_q"


def test_names_without_a_depth_are_groups_of_their_own() -> None:
    groups = groups_of(["a.blocks.1.to_q", "head", "a.blocks.0.to_q", "0"])
    assert [(g.block, g.part, [d for d, _ in g.layers]) for g in groups] == [
        ("a.blocks", "to_q", [0, 1]),
        ("", "head", [0]),
        ("", "0", [0]),
    ]


@pytest.mark.parametrize("atoms", [1, 2, 16, 512])
def test_more_use_is_darker_also_in_grey(atoms) -> None:
    tones = [grey(colour(use, atoms)) for use in np.geomspace(0.05, atoms, 40)]
    assert all(after < before for before, after in itertools.pairwise(tones))
    assert colour(0.0, atoms) == colour(0.05, atoms) == RAMP[0] and colour(float(atoms), atoms) == RAMP[-1]


def test_equal_health_is_equal_pixels_and_other_health_is_not(measured) -> None:
    assert np.array_equal(pixels(measured), pixels(replace(measured)))
    name = next(iter(measured.layers))
    assert not np.array_equal(pixels(measured), pixels(changed(measured, name, update_rank=1.0)))


def test_rows_hold_the_use_of_every_atom_most_used_first(measured) -> None:
    name = "transformer_blocks.0.norm1.linear"
    use = (0.1, 0.6, 0.05, 0.25)
    picture = pixels(changed(measured, name, use=use))
    expected = [colour(4 * share, 4) for share in (0.6, 0.25, 0.1, 0.05)]
    row = picture[TOP + 20 + 4]  # below the line that names the block
    assert [tuple(row[LABEL + 24 * place + 12].tolist()) for place in range(4)] == expected


def test_dead_and_duplicate_atoms_are_marked_each_in_its_colour(measured) -> None:
    assert measured.dead_atoms == measured.duplicate_pairs == 0
    name = "single_transformer_blocks.1.proj_out"
    per_dead = count(changed(measured, name, dead=(2,)), DEAD) - count(measured, DEAD)
    assert per_dead > 10, "one dash of a cell's width"
    assert count(changed(measured, name, dead=(0, 1, 2)), DEAD) - count(measured, DEAD) == 3 * per_dead
    marks = count(changed(measured, name, duplicates=((0, 1), (1, 3))), DOUBLE) - count(measured, DOUBLE)
    one = count(changed(measured, name, duplicates=((0, 1),)), DOUBLE) - count(measured, DOUBLE)
    assert 2 * marks == 3 * one > 0, "three atoms against two"


def test_bars_are_as_long_as_their_numbers(measured) -> None:
    name = "transformer_blocks.0.attn.to_q"
    lengths = [count(changed(measured, name, update_variation=share), RAMP[3]) for share in (0.25, 0.5, 0.75)]
    assert lengths[2] - lengths[1] == lengths[1] - lengths[0] > 0


def drawn(names: list[str], atoms: int) -> Health:
    """Numbers that are as bad as can be: every atom dead and doubled, nothing moves."""
    pairs = tuple((0, n) for n in range(1, atoms))
    row = LayerHealth(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (0.0,) * atoms, tuple(range(atoms)), pairs)
    return Health(
        1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, atoms, len(pairs), 0.0, atoms * len(names), 1, dict.fromkeys(names, row)
    )


@pytest.mark.parametrize("atoms", [1, 3, 32, 240])
@pytest.mark.parametrize("layers", [1, 26, 494])
def test_every_size_fits_on_a_page(atoms, layers) -> None:
    picture = health_picture(drawn([f"blocks.{i}.to_q" for i in range(layers)], atoms))
    assert 700 <= picture.width <= 1100 and picture.height <= 1800


def test_an_untrained_basis_can_be_drawn() -> None:
    made = two_linears()
    for layer in basis_layers(made).values():
        layer.B.data.zero_()
    found = health(made, queries(5, SETTINGS))
    assert found.dead_atoms == 8 and count(found, DEAD) > 8 * 20
