"""Compiler options of training programs: options of XLA from one table, for the outermost `jit` only."""

import functools
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from jaxnn import processor
from jaxnn.kernels.settings import eigen_context, leaves_convolutions
from jaxnn.train.step.expected import explain
from jaxnn.train.step.retrace import Watch, compilations

Value = str | bool | int | float
Options = Mapping[str, Value]

_YNN = "xla_cpu_experimental_ynn_fusion_type"


class Row(NamedTuple):
    """An option for CPUs.

    Attributes:
        option: Name of the option.
        value: Value of the option.
        feature: Feature that the processor must have, by its name in Linux; "" for every processor.
    """

    option: str
    value: Value
    feature: str = ""


TABLE = (
    # YNNPACK, to which XLA hands convolutions since jaxlib 0.10, computes gradients of kernels 1.5 to 15 times slower
    # than Eigen; it keeps products and reductions. On two cores with AVX2, with jaxlib 0.10.2 and 0.12.0: the
    # gradient of a kernel 3x3, 32 to 64 channels, 15x15 pictures, batch 128, takes 14.3 ms instead of 54.7, and 14.4
    # instead of 36.0; a step of the CIFAR-10 network 83 instead of 91, and 77 instead of 84.
    Row(_YNN, "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"),
    # LLVM uses half of AVX-512's width by default. On one core of a Xeon, also with YNNPACK off: a
    # training step of an LSTM of 128 units, batch 64, 28 steps of 28 features, takes 377 microseconds instead of 559.
    Row("xla_cpu_prefer_vector_width", 512, feature="avx512f"),
)


def compiler_options() -> dict[str, Value]:
    """Returns the options with which `jaxnn.train` compiles in this process by default.

    These are the options of `TABLE` for this processor that this jaxlib knows. Options in the `XLA_FLAGS` of the
    environment take precedence. The call starts JAX if it has not started yet.

    Returns:
        Options for `jax.jit(compiler_options=)`; empty if JAX's default devices are not CPUs.

    Example:
        >>> import jax
        >>> from jaxnn import train
        >>> sine = jax.jit(jax.numpy.sin, compiler_options=train.step.compiler_options())
        >>> float(sine(0.0))
        0.0
    """
    if jax.default_backend() != "cpu":
        return {}
    flags = os.environ.get("XLA_FLAGS", "")
    return {
        row.option: row.value
        for row in TABLE
        if (not row.feature or row.feature in processor.features())
        and not re.search(rf"--{row.option}(=|\s|$)", flags)
        and not _refusal(row.option, row.value)
    }


def effective_options(given: Options | None) -> dict[str, Value]:
    """Returns the given options, or those of the table; raises if this jaxlib does not know one, or not that value."""
    if given is None:
        return compiler_options()
    for name, value in given.items():
        if refusal := _refusal(name, value):
            raise ValueError(
                f"compiler_options: expected options of this jaxlib's XLA, got {name}={value!r} ({refusal}); leave it "
                "out, or give None for the options that suit this processor."
            )
    return dict(given)


def jit(
    function: Callable[..., Any],
    *,
    compiler_options: Options | None = None,
    warn_of_retraces: bool = False,
    **jit_options: Any,
) -> "Jitted":
    """`jax.jit` for your own training loops: compiles with the options that make `jaxnn.train` fast.

    XLA's options belong to the outermost program. So the result uses its options when it is called directly; inside a
    trace (`jit`, `vmap`, `lax.scan`) it is compiled with the options of the outermost program.

    Args:
        function: As for `jax.jit`.
        compiler_options: Options of XLA; `{}` for none. Default: those of `train.step.compiler_options`, or of
            `function` if `train.jit` made it, as it makes the steps and epochs of `jaxnn.train`.
        warn_of_retraces: Whether to give a `RetraceWarning` if a call compiles the function again for other shapes,
            dtypes, weak types or shardings. There is no warning if the first argument, which a loop carries, has
            another structure or other shapes.
        **jit_options: As for `jax.jit`, for example `donate_argnums`.

    Returns:
        The jitted function.

    Raises:
        ValueError: If `compiler_options` is not a mapping from names to values, or, at the first call, if this jaxlib
            does not know one of them.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import train
        >>> sine = train.jit(jnp.sin)
        >>> float(sine(0.0)), jax.vmap(sine)(jnp.zeros(2)).tolist()
        (0.0, [0.0, 0.0])
    """
    return Jitted(function, options_for(function, compiler_options), jit_options, warn_of_retraces)


def options_for(function: Callable[..., Any], given: Options | None) -> Options | None:
    """The options given for a program around a function, or those of the function if none are given."""
    return function.compiler_options if given is None and isinstance(function, Jitted) else given


class Jitted:
    """A jitted function with compiler options, which a trace around it ignores; the result of `jit`.

    Attributes:
        compiler_options: The options; None means those of the table.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        compiler_options: Options | None,
        jit_options: dict[str, Any],
        warn_of_retraces: bool,
    ):
        self.compiler_options = None if compiler_options is None else check_options(compiler_options)
        # Inside of a trace nothing is donated: `jit` ignores it there, and `grad` outside of `jit` keeps the arguments.
        undonated = {name: value for name, value in jit_options.items() if not name.startswith("donate_")}
        self._inner: Any = jax.jit(function, **undonated)
        self._function, self._jit_options = function, jit_options
        self._with_others: dict[str, Jitted] = {}
        self._watch = Watch(function) if warn_of_retraces else None
        functools.update_wrapper(self, function, updated=())  # nothing of another `Jitted`

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs it."""
        if get_opaque_trace_state() != _UNTRACED:
            return self._inner(*args, **kwargs)
        outermost, eigen = self._outermost
        before = compilations()
        try:
            with eigen_context(eigen):
                result = outermost(*args, **kwargs)
        except (TypeError, ValueError, RuntimeError) as error:
            explain(error, self._function, args, kwargs)
            raise
        watch = self._watch
        if watch is not None and (watch.first or compilations() != before):
            watch.look(args, kwargs)
        return result

    def with_options(self, compiler_options: Options | None) -> "Jitted":
        """The same function with other options, or with its own if None is given; equal options share programs."""
        if compiler_options is None:
            return self
        options = check_options(compiler_options)
        key = repr(sorted(options.items()))
        if key not in self._with_others:
            self._with_others[key] = Jitted(self._function, options, self._jit_options, self._watch is not None)
        return self._with_others[key]

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """As `jax.stages.Wrapped.trace`."""
        outermost, eigen = self._outermost
        with eigen_context(eigen):
            return _Traced(outermost.trace(*args, **kwargs), eigen)

    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """Lowers as `jax.stages.Wrapped.lower` does."""
        outermost, eigen = self._outermost
        with eigen_context(eigen):
            return outermost.lower(*args, **kwargs)

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the shapes and dtypes of the results."""
        return jax.eval_shape(self._inner, *args, **kwargs)

    def clear_cache(self) -> None:
        """Removes all traces and compiled programs."""
        self._inner.clear_cache()
        self._outermost[0].clear_cache()

    @functools.cached_property
    def _outermost(self) -> tuple[Any, bool | None]:
        """The function with its options, and whether they take convolutions from YNNPACK; None: see `XLA_FLAGS`."""
        # Not before the first call: it starts JAX, and the process may not have joined its job yet.
        options = effective_options(self.compiler_options)
        eigen = leaves_convolutions(str(options[_YNN])) if _YNN in options else None
        return jax.jit(self._function, compiler_options=options, **self._jit_options), eigen


class _Traced:
    """A `jax.stages.Traced` that is lowered with the settings of its trace."""

    def __init__(self, traced: Any, eigen: bool | None):
        self._traced, self._eigen = traced, eigen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._traced, name)

    def lower(self, **options: Any) -> jax.stages.Lowered:
        """Lowers as `jax.stages.Traced.lower` does."""
        with eigen_context(self._eigen):
            return self._traced.lower(**options)


with jax.ensure_compile_time_eval():
    _UNTRACED = get_opaque_trace_state()


def check_options(options: Options) -> dict[str, Value]:
    """Returns a copy of compiler options; raises unless they are a mapping from names to values."""
    wrong: Any = options
    if isinstance(options, Mapping):
        wrong = {n: v for n, v in options.items() if not (isinstance(n, str) and isinstance(v, Value))}
        if not wrong:
            return dict(options)
    raise ValueError(
        f"compiler_options: expected XLA's options by name, each a str, bool, int or float, got {wrong!r}; take for "
        "example {'xla_cpu_enable_fast_math': False}, {} for none, or None for those that suit this processor."
    )


@functools.lru_cache(maxsize=None, typed=True)
def _refusal(option: str, value: Value) -> str:
    """Returns the reason why this jaxlib does not compile with an option; empty if it does."""

    def compile_alone() -> None:
        jax.jit(lambda x: x, compiler_options={option: value}).lower(jax.ShapeDtypeStruct((), jnp.float32)).compile()

    try:
        # A separate thread, so that a `with` around the call, for example of a mesh, does not reach it.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(compile_alone).result()
    except jax.errors.JaxRuntimeError as error:
        return str(error).strip()
    return ""
