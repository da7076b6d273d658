"""Errors that suggest the right argument for the name that another library uses."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar, get_args

import jax
from flax import nnx

T = TypeVar("T")

# Each row has the names of one argument in this library, Flax, PyTorch, Keras, Haiku and JAX.
_SAME = (
    ("layers", "num_layers", "n_layers", "depth"),
    ("in_features", "input_size", "in_channels", "input_dim", "in_dim"),
    ("out_features", "out_channels", "features", "units", "filters", "output_size", "output_dim", "output_channels"),
    ("hidden_features", "hidden", "hidden_size", "hidden_dim", "units", "features"),
    ("kernel_size", "window", "kernel_shape", "window_shape", "pool_size"),
    ("stride", "strides", "window_strides"),
    ("dilation", "dilations", "kernel_dilation", "dilation_rate", "rhs_dilation", "rate"),
    ("groups", "feature_group_count"),
    ("use_bias", "bias", "with_bias"),
    ("pad_mode", "padding_mode"),
    ("activation", "nonlinearity", "activation_fn"),
    ("gate_activation", "recurrent_activation", "gate_fn"),
    ("dropout", "dropout_rate", "rate", "p"),
    ("classes", "num_classes", "n_classes"),
    ("vocabulary", "vocab_size", "num_embeddings", "input_dim"),
    ("embed_features", "embedding_dim", "embed_dim", "embedding_size"),
    ("projection", "proj_size", "projection_size"),
    ("forget_bias", "unit_forget_bias"),
    ("ceil_mode", "use_ceil"),
    ("return_state", "return_carry"),
    ("lengths", "seq_lengths", "sequence_lengths", "sequence_length"),
    ("state", "initial_state", "initial_carry", "h0", "hx"),
    ("picture", "input_shape", "image_shape", "image_size"),
    ("kernel_init", "kernel_initializer", "w_init"),
    ("bias_init", "bias_initializer", "b_init"),
    ("recurrent_kernel_init", "recurrent_initializer"),
    ("rngs", "rng", "key", "seed"),
)

_TIME = "leave it out: inputs are (*batch, time, features), and calls of layers take time_major="
_REVERSE = "leave it out: calls of layers take reverse=, and outputs keep the order of the inputs"
_STATE = "leave it out: a call takes state=, and returns (outputs, states) with return_state=True"
_PAD = "pad before the layer: jnp.pad(x, ..., mode=)"

# What to do instead, for arguments of other libraries that have no counterpart.
_INSTEAD = {
    "activation": "apply it to the output of the layer",
    "batch_first": _TIME,
    "carry_init": _STATE,
    "data_format": "leave it out: channels come last; jnp.moveaxis(x, 1, -1) moves those that come first",
    "depth_multiplier": "write groups=in_features, and out_features=depth_multiplier * in_features",
    "go_backwards": _REVERSE,
    "input_dilation": "use ConvTranspose, whose stride it is",
    "keep_order": _REVERSE,
    "kernel_regularizer": "leave it out: give fit the penalty train.losses.l2",
    "mask": "for a masked convolution call functional.conv(x, kernel * mask); calls of recurrent layers take mask=",
    "merge_mode": "leave it out: outputs are concatenated, and jnp.split(y, 2, axis=-1) separates the directions",
    "pad_mode": _PAD,
    "padding_mode": _PAD,
    "return_sequences": "leave it out: the output has all steps, and return_state=True returns the last state too",
    "reverse": _REVERSE,
    "stateful": _STATE,
    "time_major": _TIME,
    "training": "write deterministic=not training, or call model.eval() and model.train()",
    "transpose_kernel": "leave it out: kernels are (*window, in, out / groups), and interop.flax converts Flax's",
    "unroll": "leave it out: calls of layers take algorithm=",
    "zero_output_for_mask": "leave it out: outputs are zero where the mask is false",
}


def explained(cls: type[T]) -> type[T]:
    """Makes constructor and call suggest an argument for an unknown name, and check `rngs`; a class decorator.

    Args:
        cls: The module class. If its constructor takes `**kwargs`, they are arguments of its class `_cell`.

    Returns:
        The same class.
    """
    init: Callable[..., None] = cls.__init__
    signature = inspect.signature(init)
    parameters = signature.parameters
    own = [name for name, each in parameters.items() if each.kind is not inspect.Parameter.VAR_KEYWORD][1:]
    passes_on = len(own) + 1 < len(parameters)
    optional = "rngs" in parameters and parameters["rngs"].default is None

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        if passes_on:
            check_names(
                type(self).__name__, kwargs, [*own, *list(inspect.signature(self._cell.__init__).parameters)[3:]]
            )
        else:
            check_names(cls.__name__, kwargs, own)
        if "rngs" in kwargs and not (optional and kwargs["rngs"] is None):
            _check_rngs(kwargs["rngs"])
        if "rngs" in parameters and "rngs" not in kwargs and not optional:
            got = "it without its name" if any(isinstance(each, nnx.Rngs) for each in args) else "none"
            raise TypeError(
                f"rngs: expected nnx.Rngs, which parameters are drawn from, got {got}; write rngs=nnx.Rngs(0)."
            )
        try:
            signature.bind(self, *args, **kwargs)
        except TypeError as error:  # Python's own message may name a class that is not public
            raise TypeError(f"{type(self).__name__}: {error}; it takes {', '.join(own)}.") from None
        init(self, *args, **kwargs)

    cls.__init__ = checked  # type: ignore[method-assign]
    if "__call__" in vars(cls):
        cls.__call__ = _explained_call(vars(cls)["__call__"])  # type: ignore[method-assign]
    return cls


def _explained_call(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call of a module, which suggests an argument for an unknown name if it has options."""
    names = []
    for name, parameter in [*inspect.signature(call).parameters.items()][1:]:
        if parameter.kind is parameter.VAR_KEYWORD:  # annotated as `Unpack[Options]`
            names += get_args(parameter.annotation)[0].__annotations__
        else:
            names.append(name)

    @functools.wraps(call)
    def checked(self: Any, *args: Any, **options: Any) -> Any:
        check_names(type(self).__name__, options, names)
        return call(self, *args, **options)

    return checked if len(names) > 1 else call


def check_names(owner: str, given: Iterable[str], accepted: Collection[str]) -> None:
    """Raises if an argument has an unknown name.

    Args:
        owner: The module's name.
        given: Names of arguments.
        accepted: The names that the module accepts.

    Raises:
        TypeError: If there is an unknown name; the message suggests a known one.

    Example:
        >>> from jaxnn.modules.names import check_names
        >>> check_names("LSTM", ["num_layers"], ["in_features", "layers"])
        Traceback (most recent call last):
            ...
        TypeError: num_layers: expected an argument of LSTM, got an unknown name; write layers=.
    """
    for name in given:
        if name in accepted:
            continue
        same = dict.fromkeys(other for row in _SAME if name in row for other in row if other in accepted)
        if same:
            advice = "write " + " or ".join(f"{other}=" for other in same)
        elif name in _INSTEAD:
            advice = _INSTEAD[name]
        else:
            advice = f"it takes {', '.join(dict.fromkeys(accepted))}"
        raise TypeError(f"{name}: expected an argument of {owner}, got an unknown name; {advice}.")


def _check_rngs(rngs: Any) -> None:
    if isinstance(rngs, nnx.Rngs) or hasattr(rngs, "params"):
        return
    if isinstance(rngs, jax.Array):
        got, advice = f"a {rngs.dtype} array", "rngs=nnx.Rngs(key)"
    else:
        got, advice = repr(rngs), f"rngs=nnx.Rngs({rngs if isinstance(rngs, int) else 0})"
    raise ValueError(f"rngs: expected nnx.Rngs, which parameters are drawn from, got {got}; write {advice}.")
