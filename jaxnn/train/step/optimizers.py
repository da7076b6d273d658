"""Optimisers and schedules of Optax by name, for command lines."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax

from jaxnn.counts import check_count, check_not_negative
from jaxnn.kernels.accumulate import widened
from jaxnn.train.losses.penalties import weight_mask

Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["constant", "cosine", "one-cycle"]


def optimizer(
    name: Optimizer = "adam",
    learning_rate: float = 1e-3,
    *,
    steps: int | None = None,
    schedule: Schedule = "constant",
    warmup: float = 0.05,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Makes an Optax optimiser with a constant learning rate, or with a schedule over a run of `steps` steps.

    Learning rate and weight decay are arrays in the optimiser's state (`state.opt_state.hyperparams`), so other values
    do not recompile.

    Parameters in half precision are updated in float32: momenta and second moments are float32 arrays, and each
    update is rounded once, to the parameters' dtype. In bfloat16 a second moment would stop moving, since 0.999 v
    rounds to v; in float16 Adam's 1e-8 would be 0. Parameters in float32 and float64 keep their dtype.

    Args:
        name: `adam`; `adamw` (decoupled weight decay); `sgd` (Nesterov momentum 0.9).
        learning_rate: The highest learning rate of the run.
        steps: Steps of the whole run, epochs times steps per epoch; needed by every schedule but `constant`.
        schedule: `constant`; `cosine`: linear warm-up, then half a cosine down to 0; `one-cycle` (Smith and Topin, with
            cosines): from 1/25 of the learning rate up over 30 % of the run, and down to 1/250,000 of it.
        warmup: Fraction of the run over which `cosine` warms up.
        weight_decay: :math:`\lambda` of :math:`w \leftarrow w - \eta \lambda w` for weights, not for biases
            (`losses.weight_mask`); for `sgd` it is added to the gradient. Must be 0 for `adam`; use `adamw`.
        clip_norm: Largest norm of the gradient; a longer gradient is scaled down.

    Returns:
        The transformation for `train.create_state`.

    Raises:
        ValueError: If a name is unknown, a number out of range, or `steps` missing.

    References:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
        Smith and Topin, Super-Convergence, 2018, https://arxiv.org/abs/1708.07120 (one-cycle).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> tx = train.optimizer("adamw", 1e-2, steps=1000, schedule="one-cycle", weight_decay=0.1)
        >>> opt_state = tx.init({"w": jnp.ones((2, 2))})
        >>> round(float(opt_state.hyperparams["learning_rate"]), 4)
        0.01
    """
    if name not in get_args(Optimizer):
        raise ValueError(f"name: expected one of {', '.join(get_args(Optimizer))}, got {name!r}")
    if weight_decay and name == "adam":
        raise ValueError(
            f"weight_decay: expected 0 for adam, got {weight_decay}; use adamw, or train.losses.l2 for a penalty on "
            "the loss."
        )
    check_not_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm: expected a positive number or None, got {clip_norm}")
    factor = _factor(schedule, steps, warmup)

    def make(learning_rate: float, weight_decay: float) -> optax.GradientTransformation:
        def rate(count: jnp.ndarray) -> jnp.ndarray:
            return learning_rate * factor(count)

        parts = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
        if name == "adam":
            parts.append(optax.adam(rate))
        elif name == "adamw":
            parts.append(optax.adamw(rate, weight_decay=weight_decay, mask=weight_mask))
        else:
            parts.append(optax.add_decayed_weights(weight_decay, mask=weight_mask))
            parts.append(optax.sgd(rate, momentum=0.9, nesterov=True))
        return _in_float32(optax.chain(*parts))

    inject = optax.inject_hyperparams(make, hyperparam_dtype=jnp.float32)
    return inject(learning_rate=float(learning_rate), weight_decay=float(weight_decay))


def _in_float32(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Transforms float32 copies of arrays in half precision; `optax.apply_updates` rounds the updates."""
    tx = optax.with_extra_args_support(tx)

    def init(params: Any) -> Any:
        return tx.init(jax.tree.map(widened, params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return tx.update(jax.tree.map(widened, updates), state, jax.tree.map(widened, params), **extra)

    return optax.GradientTransformationExtraArgs(init, update)


def _factor(schedule: str, steps: int | None, warmup: float) -> optax.Schedule:
    """Returns the share of the highest learning rate in each step."""
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule: expected one of {', '.join(get_args(Schedule))}, got {schedule!r}")
    if steps is not None:
        check_count("steps", steps)
    if schedule == "constant":
        return optax.constant_schedule(1.0)
    if steps is None:
        raise ValueError(f"steps: expected the steps of the whole run for a {schedule} schedule, got None; give them.")
    if schedule == "one-cycle":
        return optax.cosine_onecycle_schedule(steps, 1.0)
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup: expected a share of the run from 0 to below 1, got {warmup}")
    warm = min(round(warmup * steps), steps - 1)  # Optax takes no cosine of zero steps
    return optax.warmup_cosine_decay_schedule(0.0, 1.0, warm, steps)
