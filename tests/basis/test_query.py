"""The table of query modes: widths, views, arithmetic, refusals."""

import pytest
import torch

from lorweb.basis import combine, query_dim, views
from lorweb.basis.query import MODES, encode, feature_dim, sees_grid
from tests.kontext_tiny import PixelEncoder, drawn_image

WIDTHS = {"cat-aa'b": 2304, "ca'-ca": 768, "ca'-ca+cb": 768, "caa'": 768, "caa'b": 768, "caa'bb'": 768, "aa'bb'": 768}
PATCH_WIDTHS = {"paa'b": 1024, "paa'b3": 1024, "cat-paa'b": 3072, "cat-paa'b3": 3072}

VIEWS = {
    "cat-aa'b": ("a", "a2", "b"),
    "ca'-ca": ("a2", "a"),
    "ca'-ca+cb": ("a2", "a", "b"),
    "caa'": ("top",),
    "caa'b": ("grid_blank",),
    "caa'bb'": ("grid",),
    "aa'bb'": ("grid",),
    "paa'b": ("grid_blank",),
    "paa'b3": ("grid_blank",),
    "cat-paa'b": ("a", "a2", "b"),
    "cat-paa'b3": ("a", "a2", "b"),
}


class ClipLarge(PixelEncoder):
    """The widths of CLIP ViT-L/14, and patches that say which levels were asked for."""

    dim, patch_dim = 768, 1024

    def patches(self, images: list, levels: tuple[int, ...]) -> torch.Tensor:
        return torch.full((len(images), 1024), float(sum(levels)))


def test_widths_for_the_papers_encoder() -> None:
    found = {mode: query_dim(mode, feature_dim(ClipLarge(), mode)) for mode in MODES}
    assert found == WIDTHS | PATCH_WIDTHS


@pytest.mark.parametrize("mode", sorted(PATCH_WIDTHS))
def test_patch_modes_ask_for_patches_and_others_do_not(mode: str) -> None:
    images = [drawn_image(0), drawn_image(1)]
    assert encode(ClipLarge(), mode, images).unique().tolist() == [-25.0 if mode.endswith("3") else -1.0]
    assert encode(ClipLarge(), "cat-aa'b", images).shape == (2, 12)
    for call in (lambda: encode(PixelEncoder(), mode, images), lambda: feature_dim(PixelEncoder(), mode)):
        with pytest.raises(ValueError, match="needs patch tokens, which encoder pixels-2x2 does not have; use a clip:"):
            call()


def test_views_are_those_of_the_published_table_in_its_order() -> None:
    assert {mode: views(mode) for mode in MODES} == VIEWS
    alone = {"cat-aa'b", "ca'-ca", "ca'-ca+cb", "cat-paa'b", "cat-paa'b3"}
    assert {mode for mode in MODES if not sees_grid(mode)} == alone


@pytest.mark.parametrize("mode", sorted(MODES))
def test_the_query_has_the_promised_width(mode: str) -> None:
    features = {view: torch.randn(3, 5) for view in views(mode)}
    assert combine(mode, features).shape == (3, query_dim(mode, 5))


def test_single_images_are_combined_as_the_table_says() -> None:
    a, a2, b = torch.randn(3, 2, 5)
    features = {"b": b, "a2": a2, "a": a}
    assert torch.equal(combine("cat-aa'b", features), torch.cat([a, a2, b], dim=1))
    torch.testing.assert_close(combine("ca'-ca", features), a2 - a)
    torch.testing.assert_close(combine("ca'-ca+cb", features), a2 - a + b)


def test_grids_are_encoded_whole() -> None:
    grid = torch.randn(2, 5)
    assert views("caa'") == ("top",) and views("caa'b") == ("grid_blank",)
    assert views("caa'bb'") == views("aa'bb'") == ("grid",)
    assert torch.equal(combine("aa'bb'", {"grid": grid}), grid)


def test_unknown_modes_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown query_mode 'cat-aab'; did you mean 'cat-aa'b'"):
        query_dim("cat-aab", 768)


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs features of \['b'\], got \['a', 'a2'\]"):
        combine("cat-aa'b", {"a": torch.zeros(1, 5), "a2": torch.zeros(1, 5)})
    with pytest.raises(ValueError, match=r"one shape.*\(1, 5\).*\(1, 6\)"):
        combine("ca'-ca", {"a": torch.zeros(1, 6), "a2": torch.zeros(1, 5)})
    with pytest.raises(ValueError, match="one shape"):
        combine("aa'bb'", {"grid": torch.zeros(5)})
