"""Checks of the arguments of training functions, with errors that say what to do."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx


def explain(error: Exception, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Replaces an error of `jax.jit` whose cause is a donated argument, or one that is not an array.

    It runs after an error alone, so a call that succeeds pays nothing for it.

    Args:
        error: What the call raised.
        function: What was called.
        args: Its positional arguments; the first two are the state, and the data or the batch.
        kwargs: Its keyword arguments.
    """
    if isinstance(error, jax.errors.JaxRuntimeError):
        return  # an error of the device, after which arguments may be donated already
    try:
        named = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError:
        return  # Python's own message names the wrong argument
    for name, value in list(named.items())[:2]:
        if is_used_up(value):
            raise ValueError(used_up(name)) from None
        if isinstance(error, TypeError):
            check_arrays(value, name)


def is_used_up(tree: Any) -> bool:
    """Whether an array of a pytree was donated or deleted."""
    return any(
        isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted()
        for leaf in jax.tree.leaves(tree)
    )


def used_up(name: str) -> str:
    """The error for a state whose arrays were donated."""
    return (
        f"{name}: expected arrays that are still there, got ones that were donated to an earlier step, epoch or fit; "
        f"use what that returned ({name}, ... = step({name}, ...)), or give it a copy: jax.tree.map(jnp.copy, {name})."
    )


def check_arrays(data: Any, name: str) -> None:
    """Raises if a leaf of a pytree is not an array."""
    if hasattr(data, "train") and hasattr(data, "test"):
        raise ValueError(f"{name}: expected examples, got a data set of two parts; take one of them: {name}.train.")
    # Of what is no pytree, JAX takes an iterator for a leaf, and will refuse it one day.
    leaves = [((), data)] if isinstance(data, Iterator) else jax.tree.leaves_with_path(data)
    for path, leaf in leaves:
        if not _is_array(leaf):
            advice = "put all examples into arrays of one leading length (NumPy's serve), or give fit a data.Stream"
            if dataclasses.is_dataclass(leaf):
                advice = "tell JAX which fields are arrays: jax.tree_util.register_dataclass"
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: expected arrays, or a pytree of them, got {described(leaf)}; "
                f"{advice}."
            )


def described(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str | int | float | bool | None):
        return repr(value)
    if isinstance(value, np.ndarray | np.generic):
        return f"an array of {value.dtype}"
    if inspect.isroutine(value):
        return f"the function {value.__name__}"
    return type(value).__name__


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype == bool or bool(jax.numpy.issubdtype(leaf.dtype, np.number))
    return isinstance(leaf, jax.Array | int | float | complex) or hasattr(leaf, "__jax_array__")


def check_tx(tx: Any) -> None:
    """Raises unless something is an Optax optimiser.

    Raises:
        ValueError: If it is not; the message says how to make one of it.
    """
    pair = callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None))
    if pair and not isinstance(tx, nnx.Optimizer | type):
        return
    if isinstance(tx, nnx.Optimizer):
        advice = "give the transformation that it was made with: optimizer.tx"
    elif isinstance(tx, str):
        advice = f'call it: optax.{tx}(1e-3), or train.optimizer("adam", 1e-3, steps=...)'
    elif callable(tx):
        advice = f"call it: optax.{getattr(tx, '__name__', 'adam')}(1e-3)"
    else:
        advice = "give for example optax.adam(1e-3)"
    raise ValueError(f"tx: expected an Optax optimiser, got {described(tx)}; {advice}.")


def check_opt_state(opt_state: Any) -> None:
    """Raises if an optimiser takes something else than parameters.

    Raises:
        ValueError: If it is `optax.lookahead`, or has a part that is.
    """

    def looks_ahead(node: Any) -> bool:
        return isinstance(node, optax.LookaheadState)

    if any(map(looks_ahead, jax.tree.leaves(opt_state, is_leaf=looks_ahead))):
        raise ValueError(
            "tx: expected an optimiser of parameters, got optax.lookahead, which takes pairs of them; leave it out and "
            "average the parameters: create_state(..., ema=0.999)."
        )


def check_model(model: Any) -> None:
    """Raises unless something is an NNX module or a pytree of arrays.

    Raises:
        ValueError: If it is not, a class or a module of another library for instance, or was made by `nnx.eval_shape`.
    """
    tree = nnx.to_pure_dict(nnx.state(model)) if isinstance(model, nnx.Module) else model
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not _is_array(leaf):
            advice = "give its parameters, as a pytree of arrays"
            if isinstance(leaf, type):
                advice = "make an instance of it"
            elif isinstance(leaf, jax.ShapeDtypeStruct):
                advice = "make the model itself: jax.eval_shape and nnx.eval_shape make shapes alone"
            raise ValueError(
                f"model{jax.tree_util.keystr(path)}: expected a flax.nnx.Module or a pytree of arrays, got "
                f"{described(leaf)}; {advice}."
            )


def check_function(name: str, function: Any, form: str, advice: str) -> None:
    """Raises unless something is a function that takes the arguments of a form.

    Args:
        name: The argument.
        function: The function; None is not checked.
        form: `"(model, batch, key) -> (losses, metrics)"`.
        advice: What to do.

    Raises:
        ValueError: If it cannot be called with the arguments of the form.
    """
    if function is None:
        return
    if not callable(function) or isinstance(function, type):
        raise ValueError(f"{name}: expected a function {form}, got {described(function)}; {advice}.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function in C
        return
    wanted = form.split(")")[0].count(",") + 1
    try:
        signature.bind(*[None] * wanted)
    except TypeError:
        if getattr(function, "__module__", "").startswith("jaxnn.train"):
            room = "train.losses" if "losses" in function.__module__ else "train"
            advice = f"call it: {room}.{function.__name__}(...)"
        raise ValueError(f"{name}: expected a function {form}, got one of {signature}; {advice}.") from None


def check_static(**functions: Any) -> None:
    """Raises unless functions can be hashed, as those that a compiled evaluation belongs to.

    Raises:
        ValueError: If one cannot, for example an object of a dataclass that is not frozen.
    """
    for name, function in functions.items():
        try:
            hash(function)
        except TypeError as error:
            raise ValueError(
                f"{name}: expected a function that can be hashed, since a compiled program belongs to it, got one of "
                f"{described(type(function))} ({error}); define its __hash__, or make it a frozen dataclass."
            ) from error


def check_loss_fn(loss_fn: Any) -> None:
    """Raises unless something may be a loss function.

    Raises:
        ValueError: If it takes other arguments, or is one of Optax's, which know of no model.
    """
    form = "(model, batch, key) -> (losses, metrics)"
    if loss_fn is None or getattr(loss_fn, "__module__", "").startswith("optax"):
        call = f"optax.{getattr(loss_fn, '__name__', 'squared_error')}(model(batch.images), batch.labels)"
        raise ValueError(
            f"loss_fn: expected a function {form}, got {described(loss_fn)}; write one: lambda model, batch, key: "
            f"({call}, {{}}), or train.losses.classification()."
        )
    check_function("loss_fn", loss_fn, form, "take these three; key is None in evaluation")


def losses_and_metrics(returned: Any) -> tuple[Any, Any]:
    """Returns what a loss function returned, and checks that it is a pair.

    Raises:
        ValueError: If it is not a pair.
    """
    if not isinstance(returned, tuple) or len(returned) != 2:
        got = f"an array of shape {returned.shape}" if isinstance(returned, jax.Array) else described(returned)
        raise ValueError(
            f"loss_fn: expected (losses, metrics) from it, losses of shape (batch,) and a dict of metrics, got {got}; "
            "return losses, {} and leave the mean to the step."
        )
    return returned


def check_examples(data: Any, name: str) -> None:
    """Checks that data are arrays with the examples along their first axis.

    Raises:
        ValueError: If they are not, for example a list of batches.
    """
    check_arrays(data, name)
    several = isinstance(data, list) and len(data) > 1 and all(isinstance(part, tuple | dict) for part in data)
    if several and len({jax.tree.structure(part) for part in data}) == 1:
        raise ValueError(
            f"{name}: expected a pytree of arrays with all examples along their first axis, got a list of {len(data)} "
            f"batches; join them: jax.tree.map(lambda *parts: np.concatenate(parts), *{name})."
        )
