"""An array of integers that grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Column:
    """`array[:length]` holds what was appended; reading and writing by numpy indexes is allowed."""

    def __init__(self) -> None:
        self.array: NDArray[np.int64] = np.zeros(1024, np.int64)
        self.length = 0

    def append(self, number: int) -> int:
        """Its place."""
        place = self.length
        if place == len(self.array):
            self.array = np.concatenate([self.array, np.zeros(place, np.int64)])
        self.array[place] = number
        self.length = place + 1
        return place
