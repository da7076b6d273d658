"""Functions with their weights as one file, which JAX alone can run: no `jaxnn`, and none of the model's code.

The file is a zip. `program.json` names the functions, the shapes and dtypes of their arguments and results, and what
is needed to use them. Each function is an entry that `jax.export` wrote. Nothing in it is a pickle.
"""

import importlib.util
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from jaxnn import extras
from jaxnn.files import replacing
from jaxnn.files.tensors import as_json
from jaxnn.interop import plain_trees

PLATFORMS = ("cpu", "cuda", "tpu")
CONTENTS = "program.json"
FORMAT = 1


class Step(NamedTuple):
    """One step of a recurrent model, for streams.

    Attributes:
        example: The input of one step, arrays `(batch, ...)`.
        start: `(inputs) -> state`, the state before the first step.
        step: `(state, inputs) -> (outputs, state)`.
    """

    example: Any
    start: Callable[[Any], Any]
    step: Callable[[Any, Any], tuple[Any, Any]]


class Program:
    """An exported program: functions with their weights, which compile for the device and sizes of each call.

    Args:
        functions: Programs of `jax.export` by name: `call`, and for a stream also `start` and `step`.
        about: Whatever is needed to use the program, for example names of classes.
        written_by: The release of JAX that exported them.

    Attributes:
        functions: The programs.
        about: As given.
        written_by: The release of JAX that exported them.
    """

    def __init__(
        self, functions: Mapping[str, export.Exported], about: Mapping[str, Any], written_by: str = jax.__version__
    ) -> None:
        self.functions = dict(functions)
        self.about = dict(about)
        self.written_by = written_by
        self._compiled = {name: jax.jit(function.call) for name, function in self.functions.items()}

    def __call__(self, inputs: Any) -> Any:
        """Returns the outputs for a batch of any size."""
        return self._run("call", inputs)

    def start(self, inputs: Any) -> Any:
        """Returns the state before the first step, for the batch size of these inputs."""
        return self._run("start", inputs)

    def step(self, state: Any, inputs: Any) -> Any:
        """Returns the outputs of one step, and the new state."""
        return self._run("step", state, inputs)

    def _run(self, name: str, *arguments: Any) -> Any:
        if name not in self._compiled:
            raise ValueError(f"{name}: expected a program with a step, got one without; export it with a step.")
        try:
            return self._compiled[name](*arguments)
        except ValueError as error:
            error.add_note(
                f"{self}\n{'One example needs a batch axis: x[None].' if 'Rank' in str(error) else ''}".strip()
            )
            raise
        except jax.errors.JaxRuntimeError as error:
            if "deserialize" not in str(error):
                raise
            raise ValueError(
                f"program: expected one that JAX {jax.__version__} reads, got one that JAX {self.written_by} wrote; "
                "install that release, or export with this one."
            ) from error

    def __repr__(self) -> str:
        """The functions with their arguments and results, and the names in `about`."""
        texts = {name: _described(function) for name, function in self.functions.items()}
        lines = [
            f"{name}({', '.join(map(str, each['arguments']))}) -> {each['result']}" for name, each in texts.items()
        ]
        return "\n  ".join(["Program", *lines, f"about: {', '.join(self.about) or 'nothing'}"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the program to a file, atomically.

        Args:
            path: The file to create or replace.

        Raises:
            ValueError: If JSON cannot hold `about`.
            ImportError: If flatbuffers, which `jax.export` writes with, is not installed.
            OSError: If the file cannot be written.
        """
        _need_flatbuffers()
        first = self.functions["call"]
        contents = {
            "format": FORMAT,
            "jax": self.written_by,
            "platforms": first.platforms,
            "functions": {name: _described(function) for name, function in self.functions.items()},
            "about": self.about,
        }
        text = as_json("about", contents, indent=2)
        with replacing(path) as beside, zipfile.ZipFile(beside, "w") as file:
            file.writestr(CONTENTS, text)
            for name, function in self.functions.items():
                file.writestr(name, bytes(function.serialize()))


def export_program(
    call: Callable[[Any], Any],
    example: Any,
    *,
    shapes: Any = "b, ...",
    step: Step | None = None,
    platforms: Sequence[str] = PLATFORMS,
    about: Mapping[str, Any] | None = None,
) -> Program:
    """Exports functions with their weights as a program.

    `train.export` exports a trained model, and explains `shapes`.

    Args:
        call: `(inputs) -> outputs`, of pytrees of arrays. Weights that it closes over become part of the program.
        example: Inputs, arrays or `jax.ShapeDtypeStruct`s in tuples, lists, dictionaries and named tuples. Programs
            contain no classes, so named tuples in inputs and results become dictionaries of their fields.
        shapes: Which sizes are variable, in the notation of `jax.export.symbolic_shape`. For three or more layers with
            strides write multiples, `"b, 32*h, 32*w, ..."`: JAX takes very long to compare other sizes.
        step: One step, for streams.
        platforms: The platforms that the program runs on.
        about: Whatever is needed to use the program, values that JSON can hold.

    Returns:
        The program.

    Raises:
        ValueError: If `example`, `shapes`, `platforms` or the functions do not fit.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from jaxnn import interop
        >>> weights = jnp.arange(6.0).reshape(3, 2)
        >>> program = interop.export_program(lambda x: x @ weights, np.ones((1, 3), np.float32))
        >>> program.save("product.jaxprogram")
        >>> interop.load_program("product.jaxprogram")(np.eye(3, dtype=np.float32)).tolist()
        [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    """
    if isinstance(platforms, str) or "gpu" in platforms:
        raise ValueError(
            f"platforms: expected names of jax.export, 'cpu', 'cuda', 'rocm' or 'tpu', in a tuple, got {platforms!r}; "
            "write ('cuda',), for example."
        )
    platforms = tuple(platforms)
    functions = {"call": _exported(call, (example,), (_specs(example, shapes),), platforms)}
    if step is not None:
        inputs = _specs(step.example, "b, ...")
        functions["start"] = _exported(step.start, (step.example,), (inputs,), platforms)
        state = jax.eval_shape(step.start, plain_trees.reader(step.example)(inputs))
        _, after = jax.eval_shape(step.step, state, plain_trees.reader(step.example)(inputs))
        if _sizes(state) != _sizes(after):
            raise ValueError(
                f"step: expected the state that start makes, {_sizes(state)}, got {_sizes(after)}; return the outputs "
                "and the new state."
            )
        before = plain_trees.plain(state, "start")
        functions["step"] = _exported(step.step, (state, step.example), (before, inputs), platforms)
    return Program(functions, about or {})


def load_program(path: str | os.PathLike[str]) -> Program:
    """Reads a program that `Program.save` wrote.

    Load only programs that you trust: JAX runs what they contain.

    Args:
        path: The file.

    Returns:
        The program.

    Raises:
        ValueError: If the file is damaged, or not such a program.
        ImportError: If flatbuffers, which `jax.export` reads with, is not installed.
        OSError: If it cannot be read.
    """
    _need_flatbuffers()
    try:
        with zipfile.ZipFile(Path(path)) as file:
            contents = json.loads(file.read(CONTENTS))
            known = contents["format"] == FORMAT
            names = contents["functions"] if known else ()
            functions = {name: export.deserialize(bytearray(file.read(name))) for name in names}
        program = Program(functions, contents["about"], contents["jax"])
    except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"path: expected a file that Program.save wrote, got {os.fspath(path)}, which is damaged or another "
            f"({error}); export it again."
        ) from error
    if not known:
        raise ValueError(
            f"path: expected a program of format {FORMAT}, got {os.fspath(path)} of format {contents['format']}; a "
            "newer release of this package reads it."
        )
    return program


def _exported(
    function: Callable[..., Any], examples: tuple[Any, ...], specs: tuple[Any, ...], platforms: tuple[str, ...]
) -> export.Exported:
    readers = [plain_trees.reader(example) for example in examples]

    def run(*arguments: Any) -> Any:
        given = [read(argument) for read, argument in zip(readers, arguments, strict=True)]
        return plain_trees.plain(function(*given), "result")

    try:
        return export.export(jax.jit(run), platforms=platforms)(*specs)
    except jax.errors.InconclusiveDimensionOperation as error:
        error.add_note(
            "shapes: an open size needs a bound here; pass shapes=None and an example with one: "
            "jax.export.symbolic_args_specs(example, 'b, t, ...', constraints=['t >= 2'])."
        )
        raise


def _specs(example: Any, shapes: Any) -> Any:
    tree = plain_trees.plain(example, "example")
    if shapes is None:
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.result_type(a)), tree)
    try:
        return export.symbolic_args_specs(tree, shapes)
    except ValueError as error:
        sizes = jax.tree.map(lambda a: a.shape, tree)
        raise ValueError(
            f"shapes: expected the axes of arrays of shapes {sizes}, got {shapes!r} ({error}); name every open axis, "
            "for example 'b, t, ...'."
        ) from error


def _sizes(tree: Any) -> Any:
    return jax.tree.map(lambda a: (a.shape, str(a.dtype)), tree)


def _described(function: export.Exported) -> dict[str, Any]:
    """Arguments and results as trees of texts, for example `float32[b, 8, 8, 1]`."""
    arrays = [f"{aval.dtype}[{', '.join(map(str, aval.shape))}]" for aval in (*function.in_avals, *function.out_avals)]
    count = len(function.in_avals)
    arguments, _ = jax.tree.unflatten(function.in_tree, arrays[:count])
    return {"arguments": arguments, "result": jax.tree.unflatten(function.out_tree, arrays[count:])}


def _need_flatbuffers() -> None:
    if importlib.util.find_spec("flatbuffers") is None:
        raise extras.missing("interop: flatbuffers, with which JAX writes and reads programs,", "export")
