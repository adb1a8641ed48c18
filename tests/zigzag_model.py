"""ZigZag's own cost model, fed with our mappings (needs `zigzag-dse`, the extra `peers`)."""

import copy
import importlib
import math

from costs.core import Core
from costs.layer import Layer
from costs.mapping import Mapping
from costs.zigzag import DIM_OF, OPERAND_OF

FOREIGN = {ours: theirs for theirs, ours in DIM_OF.items()}


class ZigZagModel:
    """ZigZag's cost model of one accelerator, fed with mappings instead of its own search."""

    def __init__(self, hardware):
        def load(module, name):
            return getattr(importlib.import_module(f"zigzag.{module}"), name)

        self.evaluation = load("cost_model.cost_model", "CostModelEvaluation")
        self.dim, self.operand = load("datatypes", "LayerDim"), load("datatypes", "LayerOperand")
        self.axis = load("datatypes", "OADimension")
        self.unrolled = load("mapping.spatial_mapping", "MappingSingleOADim")
        self.spatial = load("mapping.spatial_mapping", "SpatialMapping")
        self.internal = load("mapping.spatial_mapping_internal", "SpatialMappingInternal")
        self.temporal = load("mapping.temporal_mapping", "TemporalMapping")
        self.uneven = load("mapping.temporal_mapping", "TemporalMappingType").UNEVEN
        self.stage = load(
            "stages.mapping.spatial_mapping_conversion", "SpatialMappingConversionStage"
        )
        self.layer_factory = load("parser.workload_factory", "LayerNodeFactory")
        validator = load("parser.accelerator_validator", "AcceleratorValidator")(
            copy.deepcopy(hardware)
        )
        data = validator.normalized_data
        assert validator.validate()
        self.accelerator = load("parser.accelerator_factory", "AcceleratorFactory")(data).create()
        array = hardware["operational_array"]
        self.sizes = dict(zip(array["dimensions"], array["sizes"], strict=True))

    def score(self, layer: Layer, bounds, spatial, temporal) -> float:
        """Energy of a mapping [pJ]; infinite where, by ZigZag's sizes of tiles, it does not fit.

        Args:
            layer: strides, padding and bits.
            bounds: loop bounds by our dimensions.
            spatial: factors, which may be fractional, by axis and ZigZag dimension.
            temporal: loops (ZigZag dimension, factor) by operand and level, innermost first.
        """
        node = self._node(layer, bounds)
        exact, whole = (
            self.spatial(
                {
                    self.axis(axis): self.unrolled(
                        {self.dim(dim): kind(factor) for dim, factor in factors.items()}
                    )
                    for axis, factors in spatial.items()
                    if factors
                }
            )
            for kind in (float, int)
        )
        for mapping in (exact, whole):
            mapping.initialize_oa_dims({self.axis(name): size for name, size in self.sizes.items()})
        node.spatial_mapping = exact
        stage = self.stage([None], accelerator=self.accelerator, layer=node)
        exact, whole = (
            self.internal(stage.generate_mapping_per_mem_lvl(mapping), node)
            for mapping in (exact, whole)
        )
        loops = {
            self.operand(operand): [[(self.dim(d), f) for d, f in level] for level in levels]
            for operand, levels in temporal.items()
        }
        result = self.evaluation(
            accelerator=self.accelerator,
            layer=node,
            spatial_mapping=exact,
            spatial_mapping_int=whole,
            temporal_mapping=self.temporal(loops, node, self.uneven),
            access_same_data_considered_as_no_access=True,
        )
        filled = [part for levels in result.mem_utili_shared.values() for part in levels]
        return float(result.energy_total) if max(filled) <= 1 else math.inf

    def _node(self, layer, bounds):
        dims = ["B", "K", "G", "OX", "OY", "C", "FX", "FY"]
        links = {ours: theirs for theirs, ours in OPERAND_OF.items()}
        data = {
            "id": 0,
            "name": "layer",
            "operator_type": "Conv",
            "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
            "operand_source": {"W": 0, "I": -1},
            "loop_dims": dims,
            "loop_sizes": [bounds[DIM_OF[dim]] for dim in dims],
            "dimension_relations": [
                f"ix={layer.stride[1]}*ox+1*fx",
                f"iy={layer.stride[0]}*oy+1*fy",
            ],
            "operand_precision": {
                "W": layer.bits_w,
                "I": layer.bits_i,
                "O": layer.bits_psum,
                "O_final": layer.bits_o,
            },
            "pr_loop_dims": ["IX", "IY"],
            "pr_loop_sizes": [layer.input_width, layer.input_height],
            "padding": [[layer.padding[1][0]] * 2, [layer.padding[0][0]] * 2],
        }
        entry = {
            "name": "default",
            "spatial_mapping": None,
            "spatial_mapping_hint": None,
            "memory_operand_links": links,
            "temporal_ordering": None,
        }
        return self.layer_factory(data, [entry]).create()


def to_zigzag_terms(layer: Layer, core: Core, mapping: Mapping):
    """Our mapping as (bounds, spatial, temporal) for `ZigZagModel.score`.

    Where temporal factors do not divide a dimension, the unrolling becomes the fraction that makes
    up for it, as in ZigZag's own mappings; without unrolling the dimension is padded, which can
    only make our mapping look worse.
    """
    bounds = dict(layer.bounds)
    temporal_factor = dict.fromkeys(bounds, 1)
    for dim, factor in mapping.loops:
        temporal_factor[dim] *= factor
    spatial: dict[str, dict[str, float]] = {axis.name: {} for axis in core.axes}
    for dim, bound in layer.bounds.items():
        places = [
            (axis, factor)
            for axis, factors in mapping.spatial.items()
            for name, factor in factors
            if name == dim and factor > 1
        ]
        left = bound / temporal_factor[dim]
        for number, (axis, factor) in enumerate(places):
            last = number == len(places) - 1
            share = left if last else min(float(factor), left)
            if share > 1:
                spatial[axis][FOREIGN[dim]] = spatial[axis].get(FOREIGN[dim], 1.0) * share
                left /= share
        if left < 1:
            bounds[dim] = temporal_factor[dim]
            for axis in spatial:
                spatial[axis].pop(FOREIGN[dim], None)
    temporal = {}
    for operand in ("O", "W", "I"):
        chain = [level for level in core.chain(operand) if not level.startswith("pins")]
        end = len(mapping.loops)
        temporal[operand] = []
        for level in reversed(chain):
            start = mapping.position(operand, level)
            part = mapping.loops[start:end][::-1]
            temporal[operand].append([(FOREIGN[dim], factor) for dim, factor in part])
            end = start
    return bounds, spatial, temporal
