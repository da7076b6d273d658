"""Conversion of the arrays of one layer to and from another framework."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

Arrays = tuple[np.ndarray, ...]


class Part(NamedTuple):
    """Arrays of this library that correspond to arrays of another framework.

    Attributes:
        ours: Names of the arrays here.
        theirs: Names of the arrays there.
        read: Maps the arrays `theirs` to the arrays `ours`.
        write: Maps the arrays `ours` to the arrays `theirs`; the inverse, up to sums.
        optional: Whether a layer may have none of them, for example no bias.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Callable[..., Arrays]
    write: Callable[..., Arrays]
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
    """The arrays of one kind of layer in another framework, for example `interop.torch.lstm`.

    For parameters without modules: `read` makes those that the functions in `jaxnn.functional` take.

    Attributes:
        name: The kind of layer, for errors.
        parts: How arrays correspond.
        make: Makes the layer's parameters from arrays by name.

    Example:
        >>> import numpy as np
        >>> from jaxnn import interop
        >>> weights = {"weight_ih": np.ones((20, 3)), "weight_hh": np.ones((20, 5)), "bias_ih": np.ones(20)}
        >>> weights = {f"lstm.{name}_l0": array for name, array in weights.items()} | {"lstm.bias_hh_l0": np.ones(20)}
        >>> params = interop.torch.lstm.read(weights, "lstm.{}_l0")
        >>> params.w_x.shape, params.w_h.shape, float(params.b[0])
        ((3, 20), (5, 20), 2.0)
        >>> sorted(interop.torch.lstm.write(params))
        ['bias_hh', 'bias_ih', 'weight_hh', 'weight_ih']
    """

    name: str
    parts: tuple[Part, ...]
    make: Callable[..., Any] = dict

    @property
    def theirs(self) -> tuple[str, ...]:
        """The names of the arrays in the other framework."""
        return tuple(name for part in self.parts for name in part.theirs)

    def read(self, weights: Mapping[str, Any] | Sequence[Any], pattern: str = "{}") -> Any:
        """Converts the arrays of one layer to the parameters of this library.

        Args:
            weights: Arrays or tensors by name; or a sequence in the order of `theirs`, as Keras's
                `layer.get_weights()`.
            pattern: The names in `weights`, with `{}` for a name of `theirs`.

        Returns:
            The parameters: a named tuple of a recurrent layer, or a dictionary.

        Raises:
            ValueError: If an array is missing or, without a pattern, surplus.
        """
        if not isinstance(weights, Mapping):
            weights = dict(zip(self.theirs, weights, strict=False))
        names = {name: pattern.replace("{}", name) for name in self.theirs}
        given = [name for name, full in names.items() if full in weights]
        parts = [part for part in self.parts if not part.optional or any(name in given for name in part.theirs)]
        missing = [names[name] for part in parts for name in part.theirs if name not in given]
        surplus = [] if pattern != "{}" else [name for name in weights if name not in names]
        if missing or surplus:
            raise ValueError(
                f"weights: expected those of {self.name}, {', '.join(names.values())}, got "
                f"{'; '.join([f'no {name}' for name in missing] + [f'{name}, which it has not' for name in surplus])}; "
                "give the arrays of one layer."
            )
        arrays = {name: to_numpy(weights[full]) for name, full in names.items() if name in given}
        layout = dataclasses.replace(self, parts=tuple(parts))
        return self.make(**{name: jnp.asarray(array) for name, array in layout.converted(arrays)})

    def write(self, params: Any, pattern: str = "{}") -> dict[str, np.ndarray]:
        """Converts parameters of this library to the arrays of one layer there.

        Args:
            params: What `read` returns.
            pattern: As in `read`.

        Returns:
            Arrays by name.

        Raises:
            ValueError: If the layer there has no such parameter.
        """
        fields = params._asdict() if hasattr(params, "_asdict") else params
        held = {name: to_numpy(array) for name, array in fields.items() if array is not None}
        written = self.of(held).written(held)
        return {pattern.replace("{}", name): array for name, array in written}

    def of(self, ours: Mapping[str, Any]) -> "Layout":
        """This layout for a layer that has these parameters and no others; raises if the framework lacks one."""
        parts = tuple(part for part in self.parts if all(name in ours for name in part.ours))
        known = {name for part in parts for name in part.ours}
        if lacking := [name for name in ours if name not in known]:
            raise ValueError(
                f"model: expected parameters that {self.name} has, got {', '.join(lacking)} too; build the layer "
                "without it."
            )
        return dataclasses.replace(self, parts=parts)

    def converted(self, theirs: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """Arrays here by name, from all arrays there."""
        for part in self.parts:
            yield from zip(part.ours, part.read(*(theirs[name] for name in part.theirs)), strict=True)

    def written(self, ours: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """Arrays there by name, from all arrays here."""
        for part in self.parts:
            yield from zip(part.theirs, part.write(*(ours[name] for name in part.ours)), strict=True)


def same(ours: str, theirs: str, *, optional: bool = False) -> Part:
    """One array that is the same in both."""
    return Part((ours,), (theirs,), lambda a: (a,), lambda a: (a,), optional)


def moved(
    ours: str,
    theirs: str,
    read: Callable[[np.ndarray], np.ndarray],
    write: Callable[[np.ndarray], np.ndarray],
    *,
    optional: bool = False,
) -> Part:
    """One array with another layout there: `read` and `write` permute its elements."""
    return Part((ours,), (theirs,), lambda a: (read(a),), lambda a: (write(a),), optional)


def split_biases(b_x: np.ndarray, b_h: np.ndarray) -> Arrays:
    """Joins a GRU's two biases by gates r, z, n: their sum, except for the candidate's recurrent bias."""
    inner = 2 * (b_h.size // 3)
    return np.concatenate([b_x[:inner] + b_h[:inner], b_x[inner:]]), b_h[inner:]


def joined_biases(b: np.ndarray, b_hn: np.ndarray) -> Arrays:
    """The inverse of `split_biases` whose second bias is zero but for the candidate."""
    return b, np.concatenate([np.zeros_like(b[: 2 * b_hn.size]), b_hn])


def transposed(a: np.ndarray) -> np.ndarray:
    """A matrix with rows and columns exchanged."""
    return np.swapaxes(a, -1, -2)


def to_numpy(array: Any) -> np.ndarray:
    """An array of any framework: NumPy's and JAX's, PyTorch's tensors on any device, Keras's variables."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        # NumPy has no bfloat16: as float32 no value changes.
        array = array.float() if str(array.dtype) == "torch.bfloat16" else array
    return np.asarray(array)
