"""The state that training carries from step to step, as one pytree."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct

from jaxnn import keys, shapes
from jaxnn.train.step import trained
from jaxnn.train.step.ema import check_decay, start
from jaxnn.train.step.expected import (
    check_kind,
    check_model,
    check_no_statistics,
    check_opt_state,
    check_there,
    check_tx,
    described,
    kinds,
)
from jaxnn.train.step.loss_scale import LossScale
from jaxnn.train.step.trained import Wrt, mask_of_module, mask_of_tree

T = TypeVar("T")


@struct.dataclass
class TrainState:
    """Everything that a training step reads and writes: arrays as leaves, the rest static.

    It is one pytree: `jax.jit` donates it, `jax.lax.scan` carries it, `jax.vmap` maps over a stack of them (an
    ensemble), and a checkpoint saves it.

    Attributes:
        params: The trained parameters: nested dictionaries of arrays for an NNX module, by the names of its attributes;
            the pytree itself for a functional model. Frozen parameters are None here.
        opt_state: The state of the Optax transformation.
        variables: Everything in an NNX module that is not a parameter: batch statistics, the keys and counts
            of its random streams. Empty for a functional model.
        key: The random key of the whole run. It never changes: step `t` draws from `jax.random.fold_in(key, t)`.
        step: Number of steps taken, int32 `()`.
        graphdef: The structure of an NNX module without its arrays; None for a functional model.
        tx: The Optax transformation.
        loss_scale: The scale of the loss for float16 gradients, or None.
        frozen: The parameters that are not trained, in the structure of `params` with None for trained ones; None if
            all are trained.
        ema: The moving average of `params`, at least float32; None if `create_state` got no `ema`.
        ema_decay: The decay of the moving average.
    """

    params: Any
    opt_state: Any
    variables: Any
    key: jax.Array
    step: jax.Array
    graphdef: Any = struct.field(pytree_node=False, repr=False)
    tx: Any = struct.field(pytree_node=False, repr=False)
    loss_scale: LossScale | None = None
    frozen: Any = None
    ema: Any = None
    ema_decay: float | None = struct.field(pytree_node=False, default=None)

    def __repr__(self) -> str:
        shown = (field.name for field in dataclasses.fields(self) if field.repr)
        return shapes.call("TrainState", ((name, getattr(self, name)) for name in shown))

    @property
    def all_params(self) -> Any:
        """Trained and frozen parameters as one tree, as `inspect.summary` takes it."""
        return self.params if self.frozen is None else trained.join(self.params, self.frozen)

    def averaged(self) -> "TrainState":
        """This state with the moving average as its parameters, in their dtypes; `ema=True` uses it.

        Raises:
            ValueError: If there is no average.
        """
        if self.ema is None:
            raise ValueError(
                "ema: expected a state with an average, got one without; use create_state(..., ema=0.999)."
            )
        params = jax.tree.map(lambda average, p: average.astype(p.dtype), self.ema, self.params)
        return dataclasses.replace(self, params=params)

    def model(self, *, ema: bool = False) -> Any:
        """The model with the parameters of this state, for use outside of training.

        Args:
            ema: Whether to take the moving average of the parameters.

        Returns:
            The NNX module, in the mode (training or evaluation) that the module given to `create_state` had; for a
            functional model its pytree of parameters. The arrays are copies, so a later step that donates this state
            does not affect them.
        """
        check_there(self, "state")
        return _merge(jax.tree.map(_own, self.averaged() if ema else self))


def create_state(
    model: Any,
    tx: optax.GradientTransformation,
    key: jax.Array,
    *,
    wrt: Wrt | None = None,
    ema: float | None = None,
    loss_scale: LossScale | None = None,
) -> TrainState:
    r"""Splits a model into arrays and structure, and initialises the optimiser.

    The arrays are copied, so steps, which donate their state, do not affect the caller's model and key.

    Args:
        model: A `flax.nnx.Module`, or any pytree of floating-point arrays: a functional model's parameters.
            Loss functions then receive that pytree instead of the module.
        tx: An Optax optimiser.
        key: A random key `()`, `jax.random.key(seed)`, for all shuffling, augmentation and noise.
        loss_scale: The loss scale of `train.precision("float16")`, which steps use and adjust; None for none.
        wrt: Which parameters to train; all by default. A `flax.nnx` filter for a module, for example
            `nnx.PathContains("head")`, `nnx.Not(nnx.PathContains("embed"))` or `nnx.LoRAParam`; for a functional model
            a tree of bools like the parameters (one bool may cover a whole subtree), or a function from parameters to
            it. The others are frozen: they have no gradient and no optimiser state, but belong to the model and to
            checkpoints. Batch statistics are not parameters, so they follow the data in any case.
        ema: Decay of a moving average of the parameters that is kept in the state, for example 0.999:
            :math:`\bar\theta \leftarrow d_t \bar\theta + (1 - d_t) \theta` with
            :math:`d_t = \min(d, (1 + t) / (10 + t))` after step :math:`t`, in float32 at least. `evaluate`, `predict`
            and `model` use it with `ema=True`. Batch statistics are those of the parameters themselves.

    Returns:
        The state before the first step.

    Raises:
        ValueError: If there is nothing to train, a parameter is not floating-point, `wrt` does not fit the model, `ema`
            is not a decay, or an argument is of another kind, for example a seed for `key`.

    Example:
        >>> import jax, optax
        >>> from flax import nnx
        >>> from jaxnn import train
        >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> state = train.create_state(model, optax.adam(1e-3), jax.random.key(0))
        >>> state.params["kernel"].shape, int(state.step)
        ((3, 2), 0)
        >>> state.model()(jax.numpy.ones((5, 3))).shape
        (5, 2)
        >>> state = train.create_state(model, optax.adam(1e-3), jax.random.key(0), wrt=nnx.PathContains("bias"))
        >>> jax.tree.map(jax.numpy.shape, (state.params, state.frozen))
        ({'bias': (2,), 'kernel': None}, {'bias': None, 'kernel': (3, 2)})
    """
    check_model(model)
    check_tx(tx)
    _check_key(key)
    check_kind("loss_scale", loss_scale, LossScale, "train.precision('float16').loss_scale")
    decay = None if ema is None else check_decay(ema)
    graphdef: Any = None
    params, variables = model, {}
    if isinstance(model, nnx.Module):
        graphdef, param_state, *others = nnx.split(model, nnx.Param, ...)
        # Plain dictionaries: JAX flattens them in C++ on every call, and optimisers see arrays only.
        params, variables = nnx.to_pure_dict(param_state), nnx.to_pure_dict(others[-1])
    frozen = None
    if wrt is not None:
        names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)]
        mask = mask_of_tree(params, wrt) if graphdef is None else mask_of_module(model, params, wrt)
        params, frozen = trained.split(params, mask)
        if not jax.tree.leaves(params):
            raise ValueError(
                f"wrt: expected it to pick a parameter at least, got none with {wrt!r} of the model's "
                f"{', '.join(names[:4])}{', ...' * (len(names) > 4)}; for a name write nnx.PathContains('kernel')."
            )
        frozen = jax.tree.map(_own, frozen) if jax.tree.leaves(frozen) else None
    _check_params(params)
    check_no_statistics(params)
    params = jax.tree.map(_own, params)
    with jax.numpy_dtype_promotion("standard"):  # as in the step: Optax needs it
        opt_state = tx.init(params)
    check_opt_state(opt_state)
    return TrainState(
        params=params,
        # Owned again: some optimisers keep the parameters themselves, and no buffer can be donated twice.
        opt_state=jax.tree.map(_own, opt_state),
        variables=jax.tree.map(_own, variables),
        key=_own(key),
        step=jnp.zeros((), jnp.int32),
        graphdef=graphdef,
        tx=tx,
        loss_scale=jax.tree.map(_own, loss_scale),
        frozen=frozen,
        ema=None if decay is None else start(params),
        ema_decay=decay,
    )


def check_state(state: Any, name: str = "state") -> None:
    """Raises unless the argument `name` is a `TrainState` whose arrays are there."""
    if not isinstance(state, TrainState):
        if isinstance(state, nnx.Optimizer | nnx.Module):
            advice = "make it once: state = train.create_state(model, tx, key)"
        else:
            advice = "make it with train.create_state, and give it first"
        raise ValueError(f"{name}: expected a TrainState, got {described(state)}; {advice}.")
    check_there(state, name)


def without_optimizer(state: TrainState) -> TrainState:
    """The state as evaluation needs it: its program does not depend on the optimiser, which is compared by identity."""
    return dataclasses.replace(state, opt_state=None, tx=None, loss_scale=None)


def apply(state: TrainState, params: Any, function: Callable[[Any], T], *, training: bool) -> tuple[T, dict[str, Any]]:
    """Calls `function(model)` on the model in training or evaluation mode; for use inside `jit` only.

    The module exists while tracing and not afterwards, so a compiled call never walks through it.

    Args:
        state: The state whose structure and variables to use.
        params: Parameters to use instead of the state's own: what a gradient is taken with respect to.
        function: Receives the NNX module, or the pytree of a functional model.
        training: Sets dropout and batch normalisation to training (`module.train()`) or evaluation.

    Returns:
        What `function` returned, and the fields of the state that a module may assign, as it left them.

    Raises:
        ValueError: If the module gained or lost a variable, or changed a variable's shape or dtype, during
            the call.
    """
    state = dataclasses.replace(state, params=params)
    model = _merge(state)
    if state.graphdef is None:
        return function(model), {}
    if training:
        model.train()
    else:
        model.eval()
    result = function(model)
    # Values that a module sows for its caller to read are outputs, not state.
    _, *states = nnx.split(model, nnx.Param, nnx.Intermediate, ...)
    held, variables = nnx.to_pure_dict(states[0]), nnx.to_pure_dict(states[-1])
    before, after = kinds((state.all_params, state.variables)), kinds((held, variables))
    if before != after:
        was, is_now = ({n: k for n, k in each.items() if before.get(n) != after.get(n)} for each in (before, after))
        raise ValueError(
            f"model: expected variables that keep names, shapes and dtypes in a step, {was}, got {is_now}; "
            "create every nnx.Variable in the module's __init__."
        )
    if state.frozen is None:
        return result, {"params": held, "variables": variables}
    held, frozen = trained.split(held, jax.tree.map(lambda p: p is not None, params, is_leaf=lambda p: p is None))
    return result, {"params": held, "frozen": frozen, "variables": variables}


def _merge(state: TrainState) -> Any:
    if state.graphdef is None:
        return state.all_params
    return nnx.merge(state.graphdef, state.all_params, state.variables)


def _own(x: Any) -> jax.Array:
    """Copies an array; the copy is never weakly typed."""
    # A weak type would be lost in the first step, and the second would compile again.
    x = x if isinstance(x, jax.Array) else jnp.asarray(x)
    return jnp.copy(x) if jnp.issubdtype(x.dtype, jax.dtypes.extended) else jnp.array(x, x.dtype, copy=True)


def _check_key(key: Any) -> None:
    if isinstance(key, jax.Array):
        if keys.is_key(key) and key.shape == ():
            return
        if key.dtype == jnp.uint32 and key.ndim == 1:  # the older, raw form
            return
        got = f"{key.dtype} {key.shape}"
    else:
        got = described(key)
    raise ValueError(f"key: expected one random key, got {got}; make it with jax.random.key(seed).")


def _check_params(params: Any) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError(
            "model: expected parameters to train, got none; pass a flax.nnx.Module with nnx.Param, or a pytree of "
            "arrays."
        )
    for path, leaf in leaves:
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                f"model: expected floating-point parameters, got {dtype} at {jax.tree_util.keystr(path)}; "
                "convert it, or hold it as another nnx.Variable than nnx.Param if it is not trained."
            )
