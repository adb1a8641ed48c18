"""The last phase of `method: insitu`: dense, projected and distilled network side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from safetensors.numpy import save as save_tensors

from costs.insitu import Factors
from costs.layer_report import evaluate_network, sum_rows
from costs.library import load_core
from dse.accuracy import accuracy_columns
from dse.csv_rows import Row, write_rows
from dse.insitu import InSituContext, cut_all
from dse.rundir import RESULT_FILE, WEIGHTS_FILE, write_atomically
from dse.teacher import calibration
from dse.trainable import Trainable
from models.insitu import calc_storage
from models.insitu_widths import BaseWidths
from models.trace import workload_of

DENSE, PROJECTED, IN_SITU = "dense", "projected", "in_situ"


class ComparePhase:
    """Measures one network a step, the test pictures included, and writes result.csv."""

    name = "compare"
    steps = 3

    def __init__(self, context: InSituContext, run_dir: Path) -> None:
        """Bind the experiment and where its table goes."""
        self.context = context
        self.run_dir = run_dir

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take all three networks."""
        context = self.context
        teacher, distilled = outputs["teacher"], outputs["distillation"]
        widths = {path: BaseWidths(f) for path, f in context.factors.items()}
        factors, _ = cut_all(widths, distilled["widths"], outputs["projection"]["params"])
        rest = context.generated.init_rest(jax.random.key(context.config.seed))
        pictures = jnp.asarray(calibration(context.config, context.data))
        projected = outputs["projection"]["params"]
        rest = context.generated.measure(projected, rest, pictures)
        self.networks: list[tuple[str, Trainable, Any, Any, Mapping[str, Factors]]] = [
            (DENSE, context.dense, teacher["params"], teacher["rest"], {}),
            (PROJECTED, context.generated, projected, rest, context.factors),
            (
                IN_SITU,
                context.cut(factors),
                distilled["params"],
                distilled["rest"],
                factors,
            ),
        ]

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """No rows yet."""
        return {"rows": []}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """The row of one network."""
        name, net, params, rest, factors = self.networks[index]
        context = self.context
        pictures = calibration(context.config, context.data)
        row: Row = {"id": name, "network": context.config.network.name}
        row |= accuracy_columns(net, params, rest, pictures, context.data)
        storage = calc_storage(net.abstract, context.bases)
        row |= {
            "bases": str(context.bases) if factors else "",
            "parameters": sum(storage.words.values()),
            "parameter_ratio": storage.parameter_ratio if factors else 1.0,
            "memory_ratio": storage.memory_ratio if factors else 1.0,
        }
        row |= self._costs(factors)
        return {"rows": [*state["rows"], row]}, {"validation_accuracy": row["validation_accuracy"]}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Write the table, and the weights of the last network."""
        _, net, params, rest, _ = self.networks[-1]
        weights = save_tensors(net.flatten(params, rest))
        write_atomically(self.run_dir / WEIGHTS_FILE, weights)
        write_rows(self.run_dir / RESULT_FILE, state["rows"])
        return state

    def _costs(self, factors: Mapping[str, Factors]) -> Row:
        """Cost of one inference on the core, by the best mapping of every layer."""
        context = self.context
        workload = workload_of(context.dense.abstract, context.data.input_shape, pooling="fused")
        core = load_core(context.config.insitu.core)
        rows = evaluate_network(workload.layers, core, generated=factors)
        total = sum_rows(rows)
        return {
            "macs": total["macs"],
            "generation_macs": sum(f.macs for f in factors.values()),
            "weight_dram_bytes": sum(row.best.cost.io_bytes["W"] for row in rows),
            "dram_bytes": total["dram_bytes"],
            "energy_pj": total["energy_pj"],
            "latency_s": total["latency_s"],
        }
