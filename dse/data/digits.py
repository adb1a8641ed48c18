"""The 1,797 handwritten digits of 8x8 pixels that scikit-learn carries (UCI, 1998)."""

from __future__ import annotations

import numpy as np

from dse.data.dataset import SPLIT_SEED, DataSet, Split


def load_digits() -> DataSet:
    """997 training, 400 validation and 400 test pictures, float32 in 0..1."""
    from sklearn.datasets import load_digits

    features, target = load_digits(return_X_y=True)
    pictures = (np.asarray(features).reshape(-1, 8, 8, 1) / 16.0).astype(np.float32)
    labels = np.asarray(target).astype(np.int32)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    parts = np.split(order, [997, 1397])
    train, validation, test = (Split(pictures[part], labels[part]) for part in parts)
    return DataSet("digits", 10, train, validation, test)
