"""The mapping that a row of the search stands for, written out."""

from __future__ import annotations

from collections.abc import Mapping as Dict

from costs.layer import RELEVANT, Layer
from costs.line import Line
from costs.mapping import Mapping
from costs.orders import Order, Structure
from costs.parts import DIM_NUMBER, Part


def write_mapping(
    layer: Layer,
    structure: Structure,
    order: Order,
    part: Part,
    row: int,
    sizes: Dict[str, int],
    *,
    coarse: bool = False,
) -> Mapping:
    """The mapping that a row of the search stands for.

    Inside a stretch of loops those that do not index the operand stored next stand outside, and
    the loop that keeps an input tile's overlap stands last.

    Args:
        layer: the layer.
        structure: the kind of core.
        order: the order the row belongs to.
        part: the rows.
        row: which one.
        sizes: largest PEs along each axis in the search.
        coarse: whether the rows number the few factors of the greedy walk.
    """
    factors = {}
    for dim, choice in zip(part.dims, part.choice[row], strict=True):
        slides = (dim in "PR" and layer.R > 1) or (dim in "QS" and layer.S > 1)
        line = Line(
            structure, order, dim, layer.bounds[dim], dict(sizes), slides=slides, coarse=coarse
        )
        factors[dim] = dict(zip(line.kept, line.tilings.factors[choice], strict=True))
    loops: list[tuple[str, int]] = []
    starts = []
    spatial: dict[str, list[tuple[str, int]]] = {name: [] for name, *_ in structure.axes}
    for element, kind in enumerate(order.elements):
        starts.append(len(loops))
        here = [(d, int(f[element])) for d, f in factors.items() if f.get(element, 1) > 1]
        if kind != "t":
            spatial[kind] += here
            continue
        inside = [i for i in order.anchors if order.stretch(i) == element]
        last = {int(part.flagged[row, i]) for i in inside if part.flagged[row, i]}
        relevant = RELEVANT[structure.anchors[inside[0]][0]] if inside else frozenset()

        def place(loop: tuple[str, int], last=last, relevant=relevant) -> int:
            if DIM_NUMBER[loop[0]] in last:
                return 2
            return 1 if loop[0] in relevant else 0

        loops += sorted(here, key=place)
    starts.append(len(loops))
    stored: dict[str, dict[str, int]] = {}
    for number, (operand, level) in enumerate(structure.anchors):
        stored.setdefault(operand, {})[level] = starts[order.depth[number]]
    return Mapping(
        loops=tuple(loops),
        stored=stored,
        spatial={name: tuple(part) for name, part in spatial.items() if part},
    )
