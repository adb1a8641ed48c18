"""Removal of dominated rows, exact: a row goes only if another is no larger in every column."""

from __future__ import annotations

import numpy as np

SMALL = 48
"""Rows up to which all pairs are compared at once."""


ROUND = 16
"""Rows compared with all others before it is asked whether that pays."""


def find_nondominated(values: np.ndarray, effort: int | None = None) -> np.ndarray:
    """Indices of rows without those that another row dominates; of equal rows one is kept.

    Rows are visited in the order of their sums of scaled columns, in which a row comes after
    those that dominate it; where rounding makes such sums equal a dominated row may be kept.

    Args:
        values: `(rows, columns)` smaller is better in every column.
        effort: how many rows are compared with all others at most, fewer where `ROUND` of them
            remove less than a fiftieth; rows that only later ones dominate stay. `None` for all.

    Returns:
        Indices of the rows kept, in rising order.
    """
    rows = len(values)
    if rows <= 1:
        return np.arange(rows)
    if rows <= SMALL:
        return _compare_all(values)
    low, high = values.min(axis=0), values.max(axis=0)
    varying = np.flatnonzero(low < high)
    if not varying.size:
        return np.arange(1)
    columns = np.ascontiguousarray(values[:, varying].T)
    scale = (high - low)[varying]
    order = np.argsort((columns / scale[:, None]).sum(axis=0), kind="stable")
    columns = columns[:, order]
    kept = []
    before = order.size
    while order.size and (effort is None or len(kept) < effort):
        if effort is not None and kept and len(kept) % ROUND == 0:
            if order.size > 0.98 * before - ROUND:
                break
            before = order.size
        kept.append(order[0])
        better = columns[0] < columns[0, 0]
        for column in columns[1:]:
            better |= column < column[0]
        order, columns = order[better], columns[:, better]
    return np.sort(np.concatenate([np.array(kept, np.int64), order]))


def _compare_all(values: np.ndarray) -> np.ndarray:
    """The same for few rows: of all pairs at once, the first of equal rows staying."""
    no_larger = (values[:, None, :] <= values[None, :, :]).all(axis=2)
    earlier = np.triu(np.ones_like(no_larger), 1)
    beats = no_larger & (~no_larger.T | earlier)
    return np.flatnonzero(~beats.any(axis=0))
