"""`method: insitu`: a dense teacher, its projection onto generated kernels, distillation.

As Gu et al. (ICCV 2021): factors are projected onto the teacher's kernels, then trained with their
quantisers in place on 0.9 T^2 KL + 0.1 CE and an orthogonality term. With a memory preference the
numbers of bases Bi and Bc of every kernel are relaxed widths; after a share of the steps they are
rounded, and closed bases are removed in the result.
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
from costs.insitu import Bases, Factors
from costs.library import load_core
from dse.data import DataSet, load_data
from dse.experiment_spec import Experiment
from dse.relaxed_phase import Batch, Loss, RelaxedPhase
from dse.teacher import calibration, descend, plain_trainable
from dse.trainable import Trainable
from dse.training import cross_entropy, one_cycle
from models.insitu import NAMES, Masks, list_in_situ, make_in_situ, open_bases
from models.insitu_projection import (
    calc_orthogonality_loss,
    calc_projection_loss,
    calc_svd_factors,
)
from models.insitu_widths import BaseWidths, round_widths


@dataclass(frozen=True)
class InSituContext:
    """What the phases share.

    Attributes:
        config: the experiment.
        data: the data set.
        dense: the network as it is.
        generated: the same with generated kernels.
        bases: numbers of bases and bits.
    """

    config: Experiment
    data: DataSet
    dense: Trainable
    generated: Trainable
    bases: Bases

    @cached_property
    def factors(self) -> dict[str, Factors]:
        """The factors of every generated kernel by the path of its convolution."""
        return {path: conv.factors for path, conv in list_in_situ(self.generated.abstract)}

    def cut(self, chosen: Mapping[str, Factors]) -> Trainable:
        """The network with generated kernels of other factors."""
        return _generated(self.config, self.data, self.bases, chosen)


def make_insitu_context(
    config: Experiment, load: Callable[[str], DataSet] = load_data
) -> InSituContext:
    """Data and networks of an experiment.

    Args:
        config: the experiment.
        load: gives the data set, or its outline, by name.

    Raises:
        InputError: naming the key that does not fit.
    """
    load_core(config.insitu.core)  # a wrong name is told now, not after the training
    data = load(config.data.name)
    bases = Bases.parse(config.insitu.bases)
    dense = plain_trainable(config, data)
    context = InSituContext(config, data, dense, _generated(config, data, bases), bases)
    if not context.factors:
        raise InputError(
            "no kernel of the network has more rows than so many bases",
            key="insitu.bases",
            value=config.insitu.bases,
            allowed="fewer bases: Bi < min(Ci, k^2) or Bc < min(Co, Ci k^2)",
        )
    return context


def _generated(
    config: Experiment, data: DataSet, bases: Bases, chosen: Mapping[str, Factors] | None = None
) -> Trainable:
    return plain_trainable(
        config, data, lambda net, rngs: make_in_situ(net, bases, rngs=rngs, chosen=chosen)
    )


class ProjectionPhase:
    """Factors nearest to the teacher's kernels. State: parameters, optimizer leaves."""

    name = "projection"

    def __init__(self, context: InSituContext) -> None:
        """Bind the experiment."""
        self.context = context
        self.settings = context.config.insitu
        self.steps = self.settings.projection_steps if self.settings.projection == "l2" else 0
        self.optimizer = optax.scale_by_radam()
        self.compiled = jax.jit(self._step, donate_argnums=(0, 1))

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take the teacher."""
        self.teacher = outputs["teacher"]["params"]
        self.kernels = {path: self._kernel(path) for path in self.context.factors}

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Truncated singular value decompositions of every kernel."""
        params: dict[str, jax.Array] = {}
        for path, factors in self.context.factors.items():
            arrays = calc_svd_factors(self.kernels[path], factors)
            params |= {f"{path}.{name}": array for name, array in arrays.items()}
        return {"params": params, "optimizer": jax.tree.leaves(self.optimizer.init(params))}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One step for all kernels at once."""
        rate = one_cycle(self.settings.projection_learning_rate, index, self.steps)
        params, leaves, loss = self.compiled(
            state["params"], state["optimizer"], self.kernels, rate
        )
        return {"params": params, "optimizer": leaves}, {"projection_loss": loss}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """All parameters of the generated network; what is not a factor is the teacher's."""
        kept = {
            name: value
            for name, value in self.teacher.items()
            if name.removesuffix(".kernel") not in self.context.factors
        }
        return {"params": kept | state["params"]}

    def _step(
        self, params: Any, leaves: Any, kernels: Any, rate: jax.Array
    ) -> tuple[Any, Any, jax.Array]:
        def loss_fn(params: Any) -> jax.Array:
            losses = [
                calc_projection_loss(kernels[path], factors, factors_in(params, path))
                for path, factors in self.context.factors.items()
            ]
            return jnp.mean(jnp.stack(losses))

        loss, gradient = jax.value_and_grad(loss_fn)(params)
        return (*descend(self.optimizer, params, leaves, gradient, rate), loss)

    def _kernel(self, path: str) -> jax.Array:
        kernel = self.teacher[f"{path}.kernel"]
        return kernel.reshape(-1, *kernel.shape[-2:])


class DistillationPhase(RelaxedPhase):
    """Trains the generated network. State: as of a `RelaxedPhase`, with widths [kernels, 2]."""

    name = "distillation"
    relaxed = "width"

    def __init__(self, context: InSituContext) -> None:
        """Bind the experiment."""
        self.context = context
        settings = context.config.insitu
        self.widths = {path: BaseWidths(f) for path, f in context.factors.items()}
        self.largest = np.array([w.largest for w in self.widths.values()], np.float32)
        self.open = settings.memory_preference > 0
        super().__init__(
            context.config,
            context.data,
            settings,
            optax.chain(optax.scale_by_radam(), optax.add_decayed_weights(settings.weight_decay)),
            rate=settings.width_learning_rate if self.open else 0.0,
            bounds=(1.0, self.largest),
            held_share=settings.freeze_widths,
            seed=context.config.seed,
        )

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take the teacher."""
        self.teacher = outputs["teacher"]

    def given(self) -> Any:
        """The teacher's weights."""
        return self.teacher

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """The projected network, with the norms that it measures itself."""
        rest = self.context.generated.init_rest(jax.random.key(self.config.seed))
        return self.begin(outputs["projection"]["params"], rest, jnp.asarray(self.largest))

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """The network with closed bases removed, and [Bi, Bc] of each kernel by path."""
        rows = zip(self.widths, np.asarray(state["widths"]), strict=True)
        chosen = {path: list(round_widths(row)) for path, row in rows}
        factors, params = cut_all(self.widths, chosen, state["params"])
        net = self.context.cut(factors)
        pictures = jnp.asarray(calibration(self.config, self.data))
        rest = net.measure(params, state["rest"], pictures)
        return {"params": params, "rest": rest, "widths": chosen}

    def _masks(self, widths: jax.Array, index: jax.Array) -> dict[str, Masks]:
        """Masks of one step: drawn at random, and those of the rounded widths once held."""
        key = jax.random.fold_in(jax.random.key(self.config.seed + 1), index)
        held = index >= self.held_from
        widths = jnp.where(held, jnp.floor(jax.lax.stop_gradient(widths) + 0.5), widths)
        keys = jax.random.split(key, len(self.widths))
        return {
            path: width.sample(widths[i], keys[i])
            for i, (path, width) in enumerate(self.widths.items())
        }

    def calc_loss(self, params: Any, numbers: jax.Array, rest: Any, batch: Batch) -> Loss:
        """Distillation, labels, orthogonality and, with relaxed widths, the log of stored bits."""
        context, settings = self.context, self.context.config.insitu
        teacher = batch.given
        soft, _ = context.dense.apply(
            teacher["params"], teacher["rest"], batch.pictures, train=False
        )
        masks = self._masks(numbers, batch.step) if self.open else {}
        logits, after = context.generated.apply(
            params,
            rest,
            batch.pictures,
            train=True,
            prepare=(lambda net: open_bases(net, masks)) if self.open else None,
        )
        kl = calc_distillation_loss(logits, soft, settings.temperature)
        ce = cross_entropy(logits, batch.labels)
        apart = sum(
            (
                calc_orthogonality_loss(factors, factors_in(params, path))
                for path, factors in context.factors.items()
            ),
            start=jnp.zeros(()),
        )
        loss = settings.soft_share * kl + (1 - settings.soft_share) * ce
        loss = loss + settings.orthogonality * apart / len(context.factors)
        metrics = {
            "loss_soft": kl,
            "loss_labels": ce,
            "orthogonality": apart / len(context.factors),
            "accuracy": jnp.mean(jnp.argmax(logits, -1) == batch.labels),
        }
        if self.open:
            most = sum(f.stored_bits for f in context.factors.values())
            bits = jnp.zeros(())
            for path, width in self.widths.items():
                bits = bits + width.calc_bits(masks[path])
            loss = loss + settings.memory_preference * jnp.log(bits / most)
            metrics["stored_share"] = bits / most
        return loss, (after, metrics)


def calc_distillation_loss(logits: jax.Array, soft: jax.Array, temperature: float) -> jax.Array:
    """T^2 KL(teacher || student) [nat], mean over the batch of logits [n, classes]."""
    log_p = jax.nn.log_softmax(soft / temperature)
    log_q = jax.nn.log_softmax(logits / temperature)
    return temperature**2 * jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))


def factors_in(params: Mapping[str, jax.Array], path: str) -> dict[str, jax.Array]:
    """The factors of one convolution among all parameters."""
    return {name: params[f"{path}.{name}"] for name in NAMES if f"{path}.{name}" in params}


def cut_all(
    widths: Mapping[str, BaseWidths],
    chosen: Mapping[str, Any],
    params: Mapping[str, jax.Array],
) -> tuple[dict[str, Factors], dict[str, jax.Array]]:
    """Factors by path and all parameters with closed bases removed."""
    factors, cut = {}, dict(params)
    for path, width in widths.items():
        intra, cross = chosen[path]
        factors[path], arrays = width.cut(factors_in(params, path), (intra, cross))
        cut |= {f"{path}.{name}": array for name, array in arrays.items()}
    return factors, cut
