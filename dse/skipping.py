"""`method: skipping`: attention leaves channels and columns out; trained with targeted dropout.

A plainly trained network goes on training while each block keeps a share of the channels and of the
columns of what its convolutions read. What attention leaves out is dropped with a probability
that rises to one. The shares may be learned: what each batch is left with, counted, enters the
loss, and the gradient of a share is that of a relaxed width (`models.relax`, `models.skipping`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from costs.errors import InputError
from costs.layer import Layer
from costs.workload import Workload
from dse.data import DataSet, load_data
from dse.experiment_spec import Experiment
from dse.relaxed_phase import Batch, Loss, RelaxedPhase
from dse.teacher import calibration, plain_trainable
from dse.trainable import Trainable
from dse.training import cross_entropy
from models.skipping import Keep, list_skipping, make_skipping, skip
from models.skipping_count import COUNTED, calc_dense, count_kept
from models.trace import workload_of


@dataclass(frozen=True)
class SkippingContext:
    """What the phases share.

    Attributes:
        config: the experiment.
        data: the data set.
        dense: the network as it is.
        net: the same with convolutions that skip; it has the same parameters.
        workload: layers and tensors read off the network.
    """

    config: Experiment
    data: DataSet
    dense: Trainable
    net: Trainable
    workload: Workload

    @property
    def blocks(self) -> list[str]:
        """The blocks that skip."""
        return self.config.skipping.blocks

    @cached_property
    def block_of(self) -> dict[str, int]:
        """The number of its block for every layer that skips."""
        convs = list_skipping(self.net.abstract)
        return {conv.path: self.blocks.index(conv.block) for conv in convs}

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The layers of the workload by name."""
        return {layer.name: layer for layer in self.workload.layers}

    @cached_property
    def dense_cost(self) -> dict[str, float]:
        """MACs and bytes of the network as it is."""
        found = [calc_dense(layer) for layer in self.workload.layers]
        return {name: sum(cost[name] for cost in found) for name in COUNTED}

    def shares_of(self, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """MACs and bytes of the network over those without skipping [1].

        Args:
            found: costs of every layer that skips, by name.
        """
        others = [calc_dense(layer) for layer in self.workload.layers if layer.name not in found]
        return {
            name: (sum(cost[name] for cost in (*others, *found.values()))) / self.dense_cost[name]
            for name in COUNTED
        }

    def count(self, keeps: Mapping[str, Keep]) -> dict[str, dict[str, Any]]:
        """Costs [pictures] of every layer that skips, by name, from what one call kept."""
        return {
            path: count_kept(self.layers[path], *masks)
            for keep in keeps.values()
            for path, masks in keep.record.items()
        }

    def keeps(
        self, shares: Any, key: Any = None, dropped: Any = 1.0, held: Any = False
    ) -> dict[str, Keep]:
        """What each block keeps in one call."""
        return {
            block: Keep(shares[number, 0], shares[number, 1], key, dropped, held)
            for number, block in enumerate(self.blocks)
        }


def make_skipping_context(
    config: Experiment, load: Callable[[str], DataSet] = load_data
) -> SkippingContext:
    """Data and networks of an experiment.

    Args:
        config: the experiment.
        load: gives the data set, or its outline, by name.

    Raises:
        InputError: naming the key that does not fit.
    """
    blocks = config.skipping.blocks
    if not blocks or len(set(blocks)) < len(blocks):
        raise InputError(key="skipping.blocks", value=blocks, allowed="one path or more, each once")
    data = load(config.data.name)
    dense = plain_trainable(config, data)
    net = plain_trainable(config, data, lambda module, _: make_skipping(module, blocks))
    workload = workload_of(dense.abstract, data.input_shape, pooling="fused")
    context = SkippingContext(config, data, dense, net, workload)
    missing = sorted(set(context.block_of) - set(context.layers))
    if missing:
        raise InputError("is no layer of the workload", key="skipping.blocks", value=missing[0])
    return context


class SkippingPhase(RelaxedPhase):
    """Trains with skipping. State: as of a `RelaxedPhase`, with shares [blocks, 2]."""

    name = "skipping"
    relaxed = "share"

    def __init__(self, context: SkippingContext) -> None:
        """Bind the experiment."""
        self.context = context
        config, settings = context.config, context.config.skipping
        decay = optax.add_decayed_weights(config.training.weight_decay)
        super().__init__(
            config,
            context.data,
            settings,
            optax.chain(optax.scale_by_adam(), decay),
            rate=settings.share_learning_rate if settings.learned else 0.0,
            bounds=(0.01, 1.0),
            held_share=settings.freeze_shares,
            seed=config.seed + 1,
        )

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """The plainly trained network and the first shares."""
        teacher, keep = outputs["teacher"], jnp.asarray(self.context.config.skipping.keep)
        shares = jnp.tile(keep, (len(self.context.blocks), 1))
        return self.begin(teacher["params"], teacher["rest"], shares)

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """The network with its norms measured while it skips, and the shares."""
        context, shares = self.context, state["shares"]
        pictures = jnp.asarray(calibration(context.config, context.data))
        rest = context.net.measure(
            state["params"], state["rest"], pictures, lambda net: skip(net, context.keeps(shares))
        )
        return {"params": state["params"], "rest": rest, "shares": np.asarray(shares)}

    def calc_loss(self, params: Any, numbers: jax.Array, rest: Any, batch: Batch) -> Loss:
        """Cross-entropy, and the logs of the MACs and bytes that the batch is left with."""
        context, settings = self.context, self.context.config.skipping
        first, last = settings.dropped
        dropped = first + (last - first) * jnp.minimum(1.0, batch.step / max(1, self.held_from))
        held = batch.step >= self.held_from
        keeps = context.keeps(numbers, jax.random.fold_in(batch.key, 7), dropped, held)
        logits, after = context.net.apply(
            params, rest, batch.pictures, train=True, prepare=lambda net: skip(net, keeps)
        )
        task = cross_entropy(logits, batch.labels, self.config.training.label_smoothing)
        left = {k: jnp.mean(v) for k, v in context.shares_of(context.count(keeps)).items()}
        loss = task + settings.preference * jnp.log(left["macs"])
        loss = loss + settings.traffic_preference * jnp.log(left["bytes"])
        accuracy = jnp.mean(jnp.argmax(logits, -1) == batch.labels)
        return loss, (
            after,
            {
                "task_loss": task,
                "macs_share": left["macs"],
                "traffic_share": left["bytes"],
                "accuracy": accuracy,
            },
        )
