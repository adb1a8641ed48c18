"""ZigZag's own search, on its own ResNet-18 and accelerators (the extra `peers`).

Its stages from the choice of the unrolling to the cost model run as they are; what its API adds
around them (files, logs, pictures) is left out.
"""

import contextlib
import copy
import importlib
import inspect
import io
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def _get(module: str, name: str) -> Any:
    """A part of ZigZag, which is not there where the extra is not installed."""
    return getattr(importlib.import_module(f"zigzag.{module}"), name)


AcceleratorParserStage = _get("stages.parser.accelerator_parser", "AcceleratorParserStage")
CostModelStage = _get("stages.evaluation.cost_model_evaluation", "CostModelStage")
LayerNode = _get("workload.layer_node", "LayerNode")
LomaEngine = _get("opt.loma.engine", "LomaEngine")
MinimalEnergyStage = _get("stages.results.reduce_stages", "MinimalEnergyStage")
ONNXModelParserStage = _get("stages.parser.onnx_model_parser", "ONNXModelParserStage")
SpatialMappingGeneratorStage = _get(
    "stages.mapping.spatial_mapping_generation", "SpatialMappingGeneratorStage"
)
Stage = _get("stages.stage", "Stage")
TemporalMappingGeneratorStage = _get(
    "stages.mapping.temporal_mapping_generator_stage", "TemporalMappingGeneratorStage"
)
TemporalMappingType = _get("mapping.temporal_mapping", "TemporalMappingType")

INPUTS = Path(inspect.getfile(Stage)).parent.parent / "inputs"
MAPPINGS = {"tpu_like": "tpu_like", "eyeriss_like": "default"}
"""Files that give the unrolling of each accelerator."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        energy_pj: least energy [pJ].
        evaluations: calls of its cost model.
        cpu_s: processor time [s].
    """

    energy_pj: float
    evaluations: int
    cpu_s: float


def load(accelerator: str) -> tuple[Any, list[Any]]:
    """An accelerator, and the layers of ResNet-18 that it computes."""

    class Keep(Stage):
        def run(self) -> Iterator[Any]:
            yield self.kwargs, None

        def is_leaf(self) -> bool:
            return True

    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        stage = ONNXModelParserStage(
            [AcceleratorParserStage, Keep],
            workload=str(INPUTS / "workload/resnet18.onnx"),
            accelerator=str(INPUTS / f"hardware/{accelerator}.yaml"),
            mapping=str(INPUTS / f"mapping/{MAPPINGS[accelerator]}.yaml"),
        )
        (((kept, _),)) = stage.run()
    nodes = [n for n in kept["workload"].topological_sort() if isinstance(n, LayerNode)]
    return kept["accelerator"], nodes


def shape_of(node: Any) -> str:
    """The same for layers that cost the same."""
    sizes = {str(dim): size for dim, size in node.layer_dim_sizes.items()}
    relations = sorted(map(str, node.dimension_relations))
    return f"{node.type} {sizes} {relations} {node.padding}"


def search(accelerator: Any, node: Any, limit: int, stop_s: float = float("inf")) -> Found:
    """LOMA, uneven, for least energy, with at most `limit` loop factors.

    Raises:
        TimeoutError: `stop_s` seconds of processor time have passed.
    """
    count, start = 0, time.process_time()

    class Counted(CostModelStage):
        def run(self) -> Iterator[Any]:
            nonlocal count
            if time.process_time() - start > stop_s:
                raise TimeoutError(count)
            count += 1
            yield from super().run()

    stages = [
        SpatialMappingGeneratorStage,
        MinimalEnergyStage,
        TemporalMappingGeneratorStage,
        Counted,
    ]
    ((best, _),) = _run(MinimalEnergyStage, stages, accelerator, node, limit)
    return Found(float(best.energy_total), count, time.process_time() - start)


def count_orderings(accelerator: Any, node: Any, limit: int) -> int:
    """Loop orders that `search` would visit."""
    orders = 0

    class Count(TemporalMappingGeneratorStage):
        def is_leaf(self) -> bool:
            return True

        def run(self) -> Iterator[Any]:
            nonlocal orders
            engine = LomaEngine(
                accelerator=self.accelerator,
                layer=self.layer,
                spatial_mapping=self.spatial_mapping,
                mapping_type=self.mapping_type,
                **self.kwargs,
            )
            engine.temporal_loop_dim_size = engine.get_temporal_loops()
            engine.update_min_lpf_factor(engine.temporal_loop_dim_size)
            engine.get_prime_factors()
            orders += engine.nb_permutations
            yield SimpleNamespace(), None

    list(_run(SpatialMappingGeneratorStage, [Count], accelerator, node, limit))
    return orders


def _run(first: Any, others: list[Any], accelerator: Any, node: Any, limit: int) -> Any:
    return first(
        others,
        accelerator=accelerator,
        layer=copy.deepcopy(node),  # its stages write into it
        temporal_mapping_type=TemporalMappingType.UNEVEN,
        loma_lpf_limit=limit,
        loma_show_progress_bar=False,
    ).run()
