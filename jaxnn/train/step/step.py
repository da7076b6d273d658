"""One training step as one compiled function."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnn.kernels.accumulate import widened
from jaxnn.train.losses.types import LossFn, Metrics, Penalty
from jaxnn.train.step import batching, ema
from jaxnn.train.step.batching import Reduction
from jaxnn.train.step.compiling import Jitted, Options, jit
from jaxnn.train.step.expected import check_function, check_loss_fn, explained_errors, kinds, losses_and_metrics
from jaxnn.train.step.loss_scale import skip_overflow, value_and_grad
from jaxnn.train.step.state import TrainState, apply, check_state

Preprocess = Callable[[jax.Array | None, Any], Any]
"""`(key, batch) -> batch`; `key` is None in evaluation."""


def make_step(
    loss_fn: LossFn,
    *,
    penalty: Penalty | None = None,
    preprocess: Preprocess | None = None,
    reduction: Reduction = "examples",
    compiler_options: Options | None = None,
) -> Jitted:
    r"""Makes the training step `(state, batch, weights=None) -> (state, metrics)`, compiled.

    The step minimises

    .. math:: L = \frac{\sum_i w_i \ell_i}{\sum_i w_i} + R(\theta)

    where :math:`\ell_i` are the losses of the examples, :math:`w_i` their weights (`weights`, 1 by default, times the
    loss function's metric `examples`, if it has one; if all are 0 the mean is 0) and :math:`R` the penalty. The state
    is **donated**: its arrays are reused for the new state, so use the returned one. The keys of a step follow from the
    state's key and step number alone, and the state holds the random streams of an NNX module (for dropout), so a
    resumed run equals an uninterrupted one.

    It behaves like a jitted function: `make_epoch` scans over it, `jax.vmap` maps it over a stack of states, and
    `step.lower(state, batch).compile()` gives its cost.

    If the optimiser refuses a gradient that is not finite (`optax.apply_if_finite`, `optax.MultiSteps` with
    `should_skip_update_fn`), all metrics of the step including `examples` are zero, so that means skip the batch and
    `fit` continues, and batch statistics do not change.

    Args:
        loss_fn: `(model, batch, key) -> (losses, metrics)`, both **per example**: losses `(batch,)` and a dict of
            `(batch,)`, so that means can weight examples. A metric named `examples` is the weight of each example in
            loss, metrics and means; 0 leaves it out. `model` is the NNX module in training mode, or the pytree of a
            functional model. `key` is None in evaluation.
        penalty: `(params) -> ()`, added to the mean loss, for example `train.losses.l2(1e-4)`.
        preprocess: `(key, batch) -> batch`, run inside the compiled step: conversion from uint8,
            augmentation. `key` is None in evaluation.
        reduction: `"batch"` for a loss of the whole batch (for example a contrastive one), where :math:`L` is the loss
            itself and not a mean: `loss_fn` returns a scalar, and metrics that are scalars or `(batch,)`. Every batch
            must be full: pass `drop_last=True` to `make_epoch` or `fit` if the batch size does not divide the number of
            examples. The arrays of a batch that the step is called with, or that `Generated` makes, may have different
            leading lengths (nodes and edges of graphs, points in a domain and on its boundary). A batch counts once in
            means, unless a metric `examples` gives its weight.
        compiler_options: Options of XLA instead of those of `train.step.compiler_options`; `{}` for none.

    Returns:
        The step. `weights` are `(batch,)` floats, zero for examples that do not count. Metrics are float32 `()`: `loss`
        (the mean without the penalty), those of `loss_fn`, `penalty` if there is one, `grad_norm`
        :math:`\lVert \nabla_\theta L \rVert_2`, and `examples` (the sum of the weights). With a `LossScale` also
        `loss_scale` and `skipped`, which is 1 if the gradient overflowed and the step changed nothing else. The
        optimiser's `update` gets `value`, `grad`, `value_fn` (also as `obj_fn`) and `grad_fn`, so line searches,
        `optax.contrib.reduce_on_plateau` and `optax.contrib.sam(..., opaque_mode=True)` work.

    Raises:
        ValueError: If `reduction` is unknown; while tracing, if shapes do not fit, the optimiser's state changes its
            dtypes or shapes, or `weights` come with `reduction="batch"`.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> state = train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0))
        >>> step = train.make_step(loss_fn)
        >>> batch = jnp.eye(2), jnp.array([1.0, 3.0])
        >>> state, metrics = step(state, batch)
        >>> float(metrics["loss"]), int(state.step)
        (5.0, 1)
    """
    batching.check_reduction(reduction)
    check_loss_fn(loss_fn)
    check_function("penalty", penalty, "(params) -> ()", "take train.losses.l2(...) for one")
    check_function("preprocess", preprocess, "(key, batch) -> batch", "take both; key is None in evaluation")

    @partial(jit, compiler_options=compiler_options, warn_of_retraces=True, donate_argnums=0, inline=True)
    def step(state: TrainState, batch: Any, weights: jax.Array | None = None) -> tuple[TrainState, Metrics]:
        check_state(state)
        preprocess_key, loss_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        if preprocess is not None:
            batch = preprocess(preprocess_key, batch)
        batching.check_reduction(reduction, weights)
        if reduction == "examples":
            batching.check_weights(weights, batch)

        def loss_of(model: Any) -> tuple[jax.Array, Metrics]:
            with explained_errors(batch, preprocess):
                # A module in the batch, for example another network, is rebuilt: Flax lets it change its variables
                # only inside the transformation that made it.
                return losses_and_metrics(loss_fn(model, jax.tree.map(lambda x: x, batch), loss_key))

        objective = _objective(state, loss_of, penalty, reduction, batch, weights)
        (value, (metrics, assigned)), grads = value_and_grad(objective, state.loss_scale)(state.params)
        # The update adds to what the forward pass assigned, as in Flax: `nnx.WeightNorm` writes parameters.
        after = dataclasses.replace(state, **assigned)
        params, updates, opt_state = _updated(after, objective, value, grads)
        opt_state = _like_before(opt_state, state.opt_state)
        decay = state.ema_decay
        average = None if decay is None else ema.update(state.ema, params, decay, state.step)
        metrics["grad_norm"] = norm = _norm(grads)
        if _may_refuse(opt_state):
            refused = ~_is_finite(grads) & _is_finite(updates)
            metrics = {name: jnp.where(refused, jnp.zeros_like(value), value) for name, value in metrics.items()}
            variables = jax.tree.map(partial(_unless, refused), after.variables, state.variables)
            after = dataclasses.replace(after, variables=variables)
        new = dataclasses.replace(after, params=params, opt_state=opt_state, step=state.step + 1, ema=average)
        return skip_overflow(state, new, metrics, jnp.isfinite(norm))

    return step


def _objective(
    state: TrainState,
    loss_of: Callable[[Any], tuple[jax.Array, Metrics]],
    penalty: Penalty | None,
    reduction: Reduction,
    batch: Any,
    weights: jax.Array | None,
) -> Callable[[Any], tuple[jax.Array, tuple[Metrics, dict[str, Any]]]]:
    """Returns what a step minimises, `(params) -> (loss (), (metrics, what the model assigned))`."""

    def objective(params: Any) -> tuple[jax.Array, tuple[Metrics, dict[str, Any]]]:
        (losses, extra), assigned = apply(state, params, loss_of, training=True)
        if not jnp.issubdtype(dtype := getattr(losses, "dtype", float), jnp.floating):
            raise ValueError(f"loss_fn: expected losses that are floats, got {dtype}; others have no gradient.")
        if reduction == "batch":
            metrics = batching.whole_batch(losses, extra, batch)
        else:
            values, counted = batching.per_example(losses, extra, batch)
            count = batching.both(weights, counted)
            metrics = batching.weighted_means(values, count)
            examples = batching.count(batch, "batch") if count is None else jnp.sum(count)
            metrics["examples"] = jnp.asarray(examples, jnp.float32)
        total = metrics["loss"]
        if penalty is not None:
            metrics["penalty"] = _scalar(penalty(params), total.dtype)
            total = total + metrics["penalty"]
        return total, (metrics, assigned)

    return objective


def _updated(
    state: TrainState, objective: Callable[[Any], tuple[jax.Array, Any]], value: jax.Array, grads: Any
) -> tuple[Any, Any, Any]:
    """The parameters after an update of the optimiser, the update, and the optimiser's new state."""

    def value_fn(params: Any, obj_fn: Any = None, grad_fn: Any = None) -> jax.Array:
        return objective(params)[0]  # line searches of Optax refuse what their value_fn does not name

    def ascent(grads: Any) -> Any:
        return jax.tree.map(jnp.conj, grads)  # of complex parameters Optax takes the conjugate of JAX's gradient

    # Optax's Adam and schedules need JAX's standard promotion; a strict setting is meant for the model.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = _update_of(state.tx)(
            ascent(grads),
            state.opt_state,
            state.params,
            value=value,
            grad=grads,
            value_fn=value_fn,
            obj_fn=value_fn,
            grad_fn=lambda params, _: ascent(value_and_grad(objective, state.loss_scale)(params)[1]),
        )
        for update, p in zip(jax.tree.leaves(updates), jax.tree.leaves(state.params), strict=False):
            if jnp.shape(update) != jnp.shape(p):  # Optax would broadcast it
                raise ValueError(
                    f"tx: expected updates of the shapes of parameters, {jnp.shape(p)}, got {jnp.shape(update)}; take "
                    "an optimiser of gradients of the mean loss: optax.contrib.dpsgd takes one of each example."
                )
        return optax.apply_updates(state.params, updates), updates, opt_state


def _update_of(tx: Any) -> Callable[..., tuple[Any, Any]]:
    """The optimiser's `update`, which gets `value` and further arguments if it takes them."""
    # MultiSteps passes them to the optimiser inside; Optax's wrapper would drop them.
    update = tx.update if isinstance(tx, optax.MultiSteps) else optax.with_extra_args_support(tx).update
    parameters = inspect.signature(update).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return update
    names = {each.name for each in parameters}  # `optax.contrib.sam` takes `grad_fn` alone

    def with_known(*args: Any, **more: Any) -> tuple[Any, Any]:
        updated: tuple[Any, Any] = update(*args, **{name: value for name, value in more.items() if name in names})
        return updated

    return with_known


def _may_refuse(opt_state: Any) -> bool:
    """Whether a part of the optimiser skips gradients that are not finite."""

    def refuses(node: Any) -> bool:
        if isinstance(node, optax.MultiStepsState):
            return bool(jax.tree.leaves(node.skip_state)) or _may_refuse(node.inner_opt_state)
        return isinstance(node, optax.ApplyIfFiniteState)

    kinds = optax.MultiStepsState, optax.ApplyIfFiniteState
    return any(map(refuses, jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kinds))))


def _is_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))


def _unless(refused: jax.Array, after: jax.Array, before: jax.Array) -> jax.Array:
    """A variable after the step; after a refused step floats keep their old values, and random streams advance."""
    return jnp.where(refused, before, after) if jnp.issubdtype(after.dtype, jnp.inexact) else after


def _like_before(after: Any, before: Any) -> Any:
    """Checks that the optimiser's new state has the types of the old one, as a scan and a single compilation need."""
    new, old = kinds(after), kinds(before)
    for path in [*old, *new]:
        was, is_now = (each.get(path, "nothing") for each in (old, new))
        if was != is_now:
            raise ValueError(
                f"tx: expected an optimiser whose state keeps dtypes and shapes in a step, got opt_state"
                f"{path} as {was} before and {is_now} after; use train.optimizer, or give the "
                "optimiser the dtype of its state (accumulator_dtype, mu_dtype), or parameters in float32."
            )
    # A weak type alone would make the second step compile again.
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), after)


def _scalar(value: Any, dtype: Any) -> jax.Array:
    if jnp.shape(value) != ():
        raise ValueError(f"penalty: expected a scalar, shape (), got {jnp.shape(value)}; sum over the parameters.")
    return jnp.asarray(value).astype(dtype)


def _norm(tree: Any) -> jax.Array:
    """The Euclidean norm over all arrays, summed in float32 at least."""
    squares = [jnp.sum(jnp.square(widened(jnp.abs(x)))) for x in jax.tree.leaves(tree)]
    with jax.numpy_dtype_promotion("standard"):  # of parameters in float32 and in float64
        return jnp.sqrt(jnp.sum(jnp.stack(squares)))
