"""A recurrent cell of any kind: a functional cell with its parameters, run one step at a time."""

from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional import arguments
from jaxnn.functional.recurrent import check
from jaxnn.modules.names import explained
from jaxnn.modules.parameters import Initializer
from jaxnn.modules.static import keywords, static_options


@explained
class Cell(nnx.RNNCellBase):
    """A recurrent cell: a cell of `jaxnn.functional` with its parameters.

    A call runs one step by `functional.recurrent_step`. The cell runs inside `Recurrent`, and inside `nnx.RNN` and
    `nnx.Bidirectional` of Flax, whose protocol it follows. A subclass may override `__call__`, `zero_state` and
    `initialize_carry`; `Recurrent` then runs it like a cell of Flax.

    Args:
        cell: The functional cell: `functional.gru_cell()`, or your own.
        params: Its parameters, any pytree of arrays. Each array becomes an `nnx.Param`; an `nnx.Variable` is kept.
        dtype: The dtype to compute in; that of the inputs by default. Give it for `nnx.RNN` if inputs and parameters
            have different dtypes, since `nnx.RNN` makes the carry before it sees the inputs.

    Attributes:
        params: The parameters, a pytree of `nnx.Variable`.
        dtype: The dtype to compute in, or None.
        overridden: Names of the methods `__call__`, `zero_state` and `initialize_carry` that a subclass overrides.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import functional as F
        >>> from jaxnn import modules
        >>> cell = modules.Cell(F.gru_cell(reset_after=False), F.init_gru(jax.random.key(0), 3, 5))
        >>> modules.Recurrent(cell)(jnp.ones((2, 7, 3))).shape, nnx.RNN(cell)(jnp.ones((2, 7, 3))).shape
        ((2, 7, 5), (2, 7, 5))
    """

    overridden: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Here, since `nnx.tabulate` replaces methods of a class for a while.
        cls.overridden |= {"__call__", "initialize_carry", "zero_state"} & vars(cls).keys()

    def __init__(self, cell: F.Cell, params: Any, *, dtype: Any = None) -> None:
        if not isinstance(cell, F.Cell):
            raise ValueError(
                f"cell: expected a functional Cell, got {type(cell).__name__}; make one from zero_state and step, or "
                "use functional.lstm_cell()."
            )
        self.params = nnx.data(jax.tree.map(_variable, params, is_leaf=_is_variable))
        self._cell = static_options(cell._asdict())
        self.dtype = dtype

    def __nnx_repr__(self) -> Iterator[Any]:
        """Prints named tuples of parameters with their names; Flax prints them as plain tuples."""
        for part in super().__nnx_repr__():
            if hasattr(value := getattr(part, "value", None), "_fields"):
                part.value = _named(value)
            yield part

    @property
    def cell(self) -> F.Cell:
        """The functional cell."""
        return F.Cell(**keywords(self._cell))

    @property
    def num_feature_axes(self) -> int:
        """Number of feature axes of an input, as Flax names it."""
        return self.cell.feature_axes

    def arrays(self, dtype: Any) -> Any:
        """The parameters as the functions in `jaxnn.functional` take them, floats in `dtype`."""
        return _arrays(self, dtype)

    def zero_state(self, batch: tuple[int, ...] = (), dtype: Any = jnp.float32) -> Any:
        """The state before the first step, for inputs with these batch axes and this dtype."""
        dtype = dtype if self.dtype is None else self.dtype
        return self.cell.zero_state(_arrays(self, dtype), arguments.shape("batch", batch), dtype)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Initializer | None = None
    ) -> Any:
        """The state before the first step in Flax's protocol, for inputs of `dtype`, by default that of the parameters.

        Args:
            input_shape: Shape of an input of one step, `(*batch, *features)`.
            rngs: Random stream for `carry_init`, or `nnx.Rngs` with a stream `carry`.
            carry_init: Initialiser of every array of the state; `zero_state` by default.

        Returns:
            The state, arrays `(*batch, ...)`.

        Raises:
            ValueError: If `input_shape` is not a tuple of sizes, or `carry_init` is given without `rngs`.
        """
        shape = arguments.shape("input_shape", input_shape)
        zero = self.zero_state(shape[: len(shape) - self.num_feature_axes], param_dtype(self))
        if carry_init is None:
            return zero
        stream = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
        if stream is None:
            raise ValueError("rngs: expected a stream for carry_init, got None; give nnx.Rngs.")
        return jax.tree.map(lambda a: carry_init(stream(), a.shape, a.dtype), zero)

    def __call__(self, carry: Any, x: jax.typing.ArrayLike) -> tuple[Any, Any]:
        """One step: `(state, (*batch, *features))` -> the new state and the output."""
        params, x = cast(self, x)
        state = F.recurrent_step(self.cell, params, carry, x)
        return state, self.cell.output(params, state)


# Functions, not methods: `nnx.tabulate` inspects the results of all public methods, and does not support named tuples.


def cast(cell: Cell, x: jax.typing.ArrayLike) -> tuple[Any, jax.Array]:
    """The parameters and the inputs of a cell in the dtype to compute in."""
    x = check.array(x)
    dtype = x.dtype if cell.dtype is None else cell.dtype
    return _arrays(cell, dtype), arguments.cast("x", x, dtype) if cell.dtype is not None else x


def _arrays(cell: Cell, dtype: Any) -> Any:
    def array(variable: Any) -> jax.Array:
        a: jax.Array = variable[...]
        return a.astype(dtype) if _is_float(a.dtype) and _is_float(dtype) else a

    return jax.tree.map(array, cell.params, is_leaf=_is_variable)


def _named(values: Any) -> Any:
    """A named tuple in the form in which Flax prints a module."""
    from flax.nnx import reprlib  # here: only printing depends on it

    class Named(reprlib.Representable):
        def __nnx_repr__(self) -> Iterator[Any]:
            yield reprlib.Object(type(values))
            for name, value in zip(values._fields, values, strict=True):
                yield reprlib.Attr(name, _named(value) if hasattr(value, "_fields") else value)

    return Named()


def param_dtype(module: nnx.Module) -> Any:
    """The dtype of a module's first floating-point parameter; float32 if there is none."""
    dtypes = (a.dtype for a in jax.tree.leaves(nnx.state(module, nnx.Param)))
    return next(filter(_is_float, dtypes), jnp.dtype(jnp.float32))


def _is_float(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def _is_variable(value: Any) -> bool:
    """Whether a value is a variable, or the metadata that an initialiser with sharding returns."""
    return isinstance(value, nnx.Variable | nnx.VariableMetadata)


def _variable(value: Any) -> nnx.Variable:
    if isinstance(value, nnx.Variable):
        return value
    return nnx.Param(jnp.asarray(value) if isinstance(value, int | float) else value)
