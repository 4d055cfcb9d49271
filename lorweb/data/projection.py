"""A fixed random projection: features of any size in a row of one width, cosines kept."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorweb.records import stable_id


@dataclass(frozen=True)
class Projection:
    """A fixed random projection, so that spatial features of any size take the same room and keep their cosines.

    The matrix is drawn from `name` and the sizes alone: features of two runs can be compared.
    """

    name: str
    width: int

    def matrix(self, features: int) -> NDArray[np.float32]:
        """[features, width], entries of variance 1 / width."""
        rng = np.random.default_rng(int(stable_id("projection", self.name, features, self.width), 16))
        return np.asarray(rng.standard_normal((features, self.width)) / np.sqrt(self.width), dtype=np.float32)
