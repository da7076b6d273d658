"""Named tuples in exported programs: `jax.export` keeps them under a name."""

from typing import TypeVar

from jax import export

T = TypeVar("T")


def exportable(kind: type[T]) -> type[T]:
    """Registers a named tuple for `jax.export` under the name `jaxnn.NAME`; a decorator.

    Example:
        >>> from typing import Any, NamedTuple
        >>> import jax
        >>> from jax import export
        >>> @exportable
        ... class Pair(NamedTuple):
        ...     left: Any
        ...     right: Any
        >>> export.export(jax.jit(lambda x: Pair(x, x)))(jax.ShapeDtypeStruct((), "float32")).serialize() is not None
        True
    """
    export.register_namedtuple_serialization(kind, serialized_name=f"jaxnn.{kind.__name__}")
    return kind
