"""Checks of the arguments of training functions, with errors that say what to do."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


def explain(error: Exception, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Replaces an error of `jax.jit` that a donated argument caused, or one that is not an array.

    It runs only after an error, so successful calls cost nothing. It looks at the first two arguments: the state, and
    the data or batch.
    """
    if isinstance(error, jax.errors.JaxRuntimeError):
        return  # an error of the device, after which arguments may be donated already
    try:
        named = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError:
        return  # Python's own message names the wrong argument
    for name, value in list(named.items())[:2]:
        check_there(value, name)
        if isinstance(error, TypeError):
            check_arrays(value, name)


@contextmanager
def explained_errors(batch: Any, preprocess: Any) -> Iterator[None]:
    """Adds advice to errors of a function of model and batch while it is traced."""
    try:
        yield
    except ValueError as error:
        if preprocess is None and any(jnp.result_type(x) == jnp.uint8 for x in jax.tree.leaves(batch)):
            error.add_note("The batch holds uint8; preprocess=train.image_preprocess() makes floats of it.")
        raise
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        error.add_note(
            "This function is compiled and sees no values: use jax.numpy, with jnp.where for if. Call NumPy and "
            "scikit-learn in a sink, with the outputs of train.predict."
        )
        raise


def check_there(tree: Any, name: str) -> None:
    """Raises if an array of a pytree was donated or deleted."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted():
            raise ValueError(
                f"{name}: expected arrays that are still there, got ones that were donated to an earlier step, epoch "
                f"or fit; use what that returned ({name}, ... = step({name}, ...)), or give it a copy: "
                f"jax.tree.map(jnp.copy, {name})."
            ) from None


def check_arrays(data: Any, name: str) -> None:
    """Raises if a leaf of a pytree is not an array, or holds integers that JAX would cut to 32 bits without a word."""
    if hasattr(data, "train") and hasattr(data, "test"):
        raise ValueError(f"{name}: expected examples, got a data set of two parts; take one of them: {name}.train.")
    # JAX takes an iterator for a leaf now, and will refuse it in a later release.
    leaves = [((), data)] if isinstance(data, Iterator) else jax.tree.leaves_with_path(data)
    for path, leaf in leaves:
        where = f"{name}{jax.tree_util.keystr(path)}"
        if not _is_array(leaf):
            advice = (
                "put all examples into arrays of one leading length (NumPy's serve), or give fit a data.Stream of an "
                "object with __len__ and __getitem__"
            )
            if dataclasses.is_dataclass(leaf):
                advice = "tell JAX which fields are arrays: jax.tree_util.register_dataclass"
            elif isinstance(leaf, np.ndarray) and not leaf.dtype.isnative and leaf.dtype.kind in "iufc":
                advice = f"convert it to this machine's byte order: {where}.astype(np.{leaf.dtype.name})"
            elif isinstance(leaf, np.ndarray | np.generic | str):
                advice = "leave it out, or encode it as numbers"
            elif hasattr(leaf, "__array__"):
                advice = f"convert it: np.asarray({where})"
            raise ValueError(f"{where}: expected arrays, or a pytree of them, got {described(leaf)}; {advice}.")
        if isinstance(leaf, np.ndarray) and leaf.dtype in (np.int64, np.uint64) and leaf.size:
            _check_fits(leaf, where)


def check_kind(name: str, value: Any, kind: type, advice: str) -> None:
    """Raises unless an optional argument is None or an instance of a class."""
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name}: expected a {kind.__name__} or None, got {described(value)}; write {advice}.")


def described(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str | int | float | bool | None):
        return repr(value)
    if isinstance(value, np.ndarray | np.generic):
        return f"an array of {value.dtype}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    return type(value).__name__


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        is_number = leaf.dtype == bool or bool(jax.numpy.issubdtype(leaf.dtype, np.number))
        return is_number and leaf.dtype.isnative
    return isinstance(leaf, jax.Array | int | float | complex) or hasattr(leaf, "__jax_array__")


def _check_fits(integers: np.ndarray, where: str) -> None:
    held, low, high = np.iinfo(jnp.result_type(integers)), int(integers.min()), int(integers.max())
    if low < held.min or high > held.max:
        raise ValueError(
            f"{where}: expected integers that fit into {held.dtype}, to which JAX converts {integers.dtype}, got {low} "
            f"to {high}; subtract the lowest, or set jax_enable_x64."
        )


def check_tx(tx: Any) -> None:
    """Raises unless something is an Optax optimiser; the message says how to make one."""
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
    """Raises if an optimiser contains `optax.lookahead`, which takes pairs of parameters."""

    def looks_ahead(node: Any) -> bool:
        return isinstance(node, optax.LookaheadState)

    if any(map(looks_ahead, jax.tree.leaves(opt_state, is_leaf=looks_ahead))):
        raise ValueError(
            "tx: expected an optimiser of parameters, got optax.lookahead, which takes pairs of them; leave it out and "
            "average the parameters: create_state(..., ema=0.999)."
        )


def check_model(model: Any) -> None:
    """Raises unless a model is an NNX module or a pytree of arrays: no class, other framework's module or shapes."""
    tree = nnx.to_pure_dict(nnx.state(model)) if isinstance(model, nnx.Module) else model
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not _is_array(leaf):
            advice = "give its parameters, as a pytree of arrays"
            if isinstance(leaf, type):
                advice = "make an instance of it"
            elif isinstance(leaf, jax.ShapeDtypeStruct):
                advice = "make the model itself: jax.eval_shape and nnx.eval_shape make shapes alone"
            elif callable(leaf):
                advice = (
                    "give its arrays alone, and join them with the rest in the loss function (for Equinox, "
                    "eqx.partition(model, eqx.is_inexact_array) and eqx.combine)"
                )
            raise ValueError(
                f"model{jax.tree_util.keystr(path)}: expected a flax.nnx.Module or a pytree of arrays, got "
                f"{described(leaf)}; {advice}."
            )


def check_no_statistics(params: Any) -> None:
    """Raises if the trained parameters hold the batch statistics of a Flax Linen module, which are no parameters."""
    if isinstance(params, Mapping) and "params" in params and jax.tree.leaves(params.get("batch_stats")):
        raise ValueError(
            "model: expected parameters to train, got a Flax Linen module's variables with batch_stats, which no "
            "gradient trains; keep them fixed with wrt={'params': True, 'batch_stats': False}, or let them follow the "
            "data in nnx.bridge.ToNNX(module, rngs=nnx.Rngs(0)).lazy_init(x), called with mutable=['batch_stats']."
        )


def check_function(name: str, function: Any, form: str, advice: str) -> None:
    """Raises unless the argument `name` is None or a function of a form, for example `"(model, batch) -> outputs"`."""
    if function is None:
        return
    if not callable(function) or isinstance(function, type | nnx.Module):
        raise ValueError(f"{name}: expected a function {form}, got {described(function)}; {advice}.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function in C
        return
    wanted = form.split(")")[0].count(",") + 1
    try:
        signature.bind(*[None] * wanted)
    except TypeError:
        if _module(function).startswith("jaxnn.train"):
            room = "train.losses" if "losses" in _module(function) else "train"
            advice = f"call it: {room}.{function.__name__}(...)"
        raise ValueError(f"{name}: expected a function {form}, got one of {signature}; {advice}.") from None


def _module(function: Any) -> str:
    """The name of its module; empty for a function without one, made by `exec`."""
    return getattr(function, "__module__", None) or ""


def check_static(**functions: Any) -> None:
    """Raises unless functions can be hashed, as static arguments of the compiled evaluation."""
    for name, function in functions.items():
        try:
            hash(function)
        except TypeError as error:
            raise ValueError(
                f"{name}: expected a function that can be hashed, since a compiled program belongs to it, got one of "
                f"{described(type(function))} ({error}); define its __hash__, or make it a frozen dataclass."
            ) from error


def check_loss_fn(loss_fn: Any) -> None:
    """Raises unless something takes the arguments of a loss function; Optax's own losses do not."""
    form = "(model, batch, key) -> (losses, metrics)"
    if loss_fn is None or _module(loss_fn).startswith("optax"):
        call = f"optax.{getattr(loss_fn, '__name__', 'squared_error')}(model(batch.images), batch.labels)"
        raise ValueError(
            f"loss_fn: expected a function {form}, got {described(loss_fn)}; write one: lambda model, batch, key: "
            f"({call}, {{}}), or train.losses.classification()."
        )
    check_function("loss_fn", loss_fn, form, "take these three; key is None in evaluation")


def losses_and_metrics(returned: Any) -> tuple[Any, Any]:
    """Returns what a loss function returned; raises if it is not a pair."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        got = f"an array of shape {returned.shape}" if isinstance(returned, jax.Array) else described(returned)
        raise ValueError(
            f"loss_fn: expected (losses, metrics) from it, losses of shape (batch,) and a dict of metrics, got {got}; "
            "return losses, {} and leave the mean to the step."
        )
    return returned


def check_examples(data: Any, name: str) -> None:
    """Raises unless data are arrays with the examples along their first axis; a list of batches raises too."""
    check_arrays(data, name)
    several = isinstance(data, list) and len(data) > 1 and all(isinstance(part, tuple | dict) for part in data)
    if several and len({jax.tree.structure(part) for part in data}) == 1:
        single = any(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(data[0]))
        parts, join = ("examples", "stack") if single else ("batches", "concatenate")
        raise ValueError(
            f"{name}: expected a pytree of arrays with all examples along their first axis, got a list of {len(data)} "
            f"{parts}; join them: jax.tree.map(lambda *{parts}: np.{join}({parts}), *{name})."
        )


def kind(x: Any) -> str:
    """Dtype and shape of an array or number, as text."""
    return f"{jnp.result_type(x)} {jnp.shape(x)}"


def kinds(tree: Any) -> dict[str, str]:
    """The kind of each array of a pytree, by its path."""
    return {jax.tree_util.keystr(path): kind(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}
