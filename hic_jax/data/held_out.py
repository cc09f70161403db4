"""Which examples are for tests, of a set that does not say so itself."""

import numpy as np


def stratified(labels: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """(N,) bool, ``size`` of them True, each class within one of its share.

    Evenly spaced picks from the examples in order of class, at random within a class.

    Args:
      labels: (N,) integers.
      size: examples that are picked, at most N.
      seed: which ones; the same with every version of NumPy.
    """
    # RandomState's stream is frozen, so the split is the same with every NumPy.
    tie_break = np.random.RandomState(seed).permutation(len(labels))
    by_class = np.lexsort((tie_break, labels))
    picks = np.arange(size) * len(labels) // size
    mask = np.zeros(len(labels), bool)
    mask[by_class[picks]] = True
    return mask


def a_fifth(labels: np.ndarray) -> np.ndarray:
    """(N,) bool, a fifth of them True, or one: of two of a class at most one is."""
    return stratified(labels, max(1, len(labels) // 5))
