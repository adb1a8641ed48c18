"""`method: skipping`: attention leaves channels and columns out; trained with targeted dropout.

A plainly trained network goes on training while each block keeps a share of the channels and of the
columns of what its convolutions read. What attention leaves out is dropped with a probability
that rises to one. The shares may be learned: the expected MACs enter the loss, and the gradient of
a share is that of a relaxed width (`models.relax`, `models.skipping`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from costs.errors import InputError
from costs.workload import Workload
from dse.augment import prepare_pictures
from dse.data import DataSet, load_data
from dse.experiment_spec import Experiment
from dse.teacher import calibration, descend, draw_batch, plain_trainable
from dse.trainable import Trainable
from dse.training import cross_entropy, one_cycle
from models.skipping import Keep, calc_remaining, list_skipping, make_skipping, skip
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

    def expected_share(self, shares: Any) -> Any:
        """Expected MACs of the network over those without skipping [1].

        Args:
            shares: [blocks, 2] kept channels and columns.
        """
        total, kept = 0.0, 0.0
        for layer in self.workload.layers:
            block = self.block_of.get(layer.name)
            share = 1.0 if block is None else calc_remaining(shares[block, 0], shares[block, 1])
            total, kept = total + layer.macs, kept + layer.macs * share
        return kept / total

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
    missing = sorted(set(context.block_of) - {layer.name for layer in workload.layers})
    if missing:
        raise InputError("is no layer of the workload", key="skipping.blocks", value=missing[0])
    return context


class SkippingPhase:
    """Trains with skipping. State: parameters, rest, optimizers, shares [blocks, 2]."""

    name = "skipping"

    def __init__(self, context: SkippingContext) -> None:
        """Bind the experiment."""
        self.context = context
        self.settings = context.config.skipping
        self.steps = self.settings.steps
        self.optimizer = optax.chain(
            optax.scale_by_adam(),
            optax.add_decayed_weights(context.config.training.weight_decay),
        )
        self.share_optimizer = optax.scale_by_adam()
        self.held_from = int(self.settings.freeze_shares * self.steps)
        self.compiled = jax.jit(self._step, donate_argnums=(0, 1, 2, 3, 4))

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """The plainly trained network and the first shares."""
        teacher = outputs["teacher"]
        shares = jnp.tile(jnp.asarray(self.settings.keep), (len(self.context.blocks), 1))
        return {
            "params": teacher["params"],
            "rest": teacher["rest"],
            "optimizer": jax.tree.leaves(self.optimizer.init(teacher["params"])),
            "shares": shares,
            "share_optimizer": jax.tree.leaves(self.share_optimizer.init(shares)),
        }

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One batch."""
        pictures, labels = draw_batch(self.context.config, self.context.data, index)
        *parts, metrics = self.compiled(
            state["params"],
            state["rest"],
            state["optimizer"],
            state["shares"],
            state["share_optimizer"],
            index,
            one_cycle(self.settings.learning_rate, index, self.steps),
            pictures,
            labels,
        )
        names = ("params", "rest", "optimizer", "shares", "share_optimizer")
        return dict(zip(names, parts, strict=True)), metrics

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """The network with its norms measured while it skips, and the shares."""
        context, shares = self.context, state["shares"]
        pictures = jnp.asarray(calibration(context.config, context.data))
        rest = context.net.measure(
            state["params"], state["rest"], pictures, lambda net: skip(net, context.keeps(shares))
        )
        return {"params": state["params"], "rest": rest, "shares": np.asarray(shares)}

    def _step(
        self,
        params: Any,
        rest: Any,
        leaves: Any,
        shares: jax.Array,
        share_leaves: Any,
        index: jax.Array,
        rate: jax.Array,
        pictures: jax.Array,
        labels: jax.Array,
    ) -> tuple[Any, ...]:
        context, settings = self.context, self.settings
        config = context.config
        key = jax.random.fold_in(jax.random.key(config.seed + 1), index)
        pictures = prepare_pictures(key, pictures, config.training, context.data.scaling)
        first, last = settings.dropped
        done = jnp.minimum(1.0, index / max(1, self.held_from))
        dropped = first + (last - first) * done

        def loss_fn(params: Any, shares: jax.Array) -> tuple[jax.Array, Any]:
            keeps = context.keeps(
                shares, jax.random.fold_in(key, 7), dropped, index >= self.held_from
            )
            logits, after = context.net.apply(
                params, rest, pictures, train=True, prepare=lambda net: skip(net, keeps)
            )
            task = cross_entropy(logits, labels, config.training.label_smoothing)
            expected = context.expected_share(shares)
            loss = task + settings.preference * jnp.log(expected)
            metrics = {
                "task_loss": task,
                "macs_share": expected,
                "accuracy": jnp.mean(jnp.argmax(logits, -1) == labels),
            }
            return loss, (after, metrics | {"loss": loss})

        (_, (after, metrics)), (gradient, by_share) = jax.value_and_grad(
            loss_fn, argnums=(0, 1), has_aux=True
        )(params, shares)
        params, leaves = descend(self.optimizer, params, leaves, gradient, rate)
        if settings.learned:
            free = jnp.where(index >= self.held_from, 0.0, settings.share_learning_rate)
            moved, share_leaves = descend(
                self.share_optimizer, shares, share_leaves, by_share, free
            )
            shares = jnp.clip(moved, 0.01, 1.0)
        return params, after, leaves, shares, share_leaves, metrics
