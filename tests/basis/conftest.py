"""What several files of this folder ask for."""

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    from skimage import data

    images = [
        Image.fromarray(picture).resize((96, 80)) for picture in (data.coffee(), data.chelsea(), data.astronaut())
    ]
    assert len(images) == 3
    return images
