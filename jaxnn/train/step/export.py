"""A trained model as a program that JAX alone can run."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.interop import Program, Step, export_program
from jaxnn.interop.program import PLATFORMS
from jaxnn.train.step.expected import check_function
from jaxnn.train.step.state import TrainState, apply, check_state
from jaxnn.train.step.step import Preprocess


def export(
    state: TrainState,
    example: Any,
    apply_fn: Callable[[Any, Any], Any] | None = None,
    *,
    shapes: Any = "b, ...",
    preprocess: Preprocess | None = None,
    step_example: Any = None,
    start_fn: Callable[[Any, Any], Any] | None = None,
    step_fn: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None,
    ema: bool = False,
    platforms: Sequence[str] = PLATFORMS,
    about: Mapping[str, Any] | None = None,
) -> Program:
    """Exports preprocessing and model, with the weights, as a program that JAX runs without their code.

    The model is in evaluation mode, and `preprocess` gets None as the key: no dropout, no augmentation, nothing random.
    `Program.save` writes it as one file.

    Args:
        state: The state; it is neither changed nor donated.
        example: Inputs before preprocessing, a pytree of arrays `(batch, ...)`, for example the first pictures of the
            data. Only shapes and dtypes matter. The program takes a named tuple as a dictionary of its fields.
        apply_fn: `(model, inputs) -> outputs`, with the inputs as `preprocess` leaves them; `model(inputs)` by default.
            A sequence with traced lengths: `lambda model, inputs: model(inputs["x"], lengths=inputs["lengths"])`.
        shapes: Which sizes are variable, in the notation of `jax.export.symbolic_shape`: the first axis of every array
            by default, `"b, t, ..."` for batch and time, or a tree of such texts by the names in `example`. None takes
            the shapes of `example`, which may be `jax.ShapeDtypeStruct`s with symbolic sizes.
        preprocess: As for `make_step`; it changes the inputs of a step too.
        step_example: Inputs of one step, `(batch, ...)`. With it the program also has the functions `start` and `step`
            for streams.
        start_fn: `(model, inputs of a step) -> state`; `model.zero_state((batch,))` by default.
        step_fn: `(model, state, inputs of a step) -> (outputs, state)`; `model.step(state, inputs)` by default, as
            `models.LanguageModel` has it.
        ema: Whether to use the moving average of the parameters (`create_state(..., ema=0.999)`).
        platforms: The platforms that the program runs on, by the names of `jax.export`.
        about: Whatever is needed to use the program, for example names of classes, as values that JSON can hold.

    Returns:
        The program. Named tuples in its results, recurrent states for example, are dictionaries of their fields.

    Raises:
        ValueError: If `state` was donated or is sharded over processes, or an argument does not fit the model.

    Example:
        >>> import jax, numpy as np, optax
        >>> from flax import nnx
        >>> from jaxnn import interop, models, train
        >>> model = models.MLP((4, 8, 3), rngs=nnx.Rngs(0))
        >>> state = train.create_state(model, optax.adam(1e-3), jax.random.key(0))
        >>> program = train.export(state, np.ones((1, 4), np.float32), about={"classes": ["a", "b", "c"]})
        >>> program.save("flowers.jaxprogram")
        >>> interop.load_program("flowers.jaxprogram")(np.ones((5, 4), np.float32)).shape
        (5, 3)
    """
    check_state(state)
    check_function("apply_fn", apply_fn, "(model, inputs) -> outputs", "write lambda model, x: model(x)")
    check_function("start_fn", start_fn, "(model, inputs) -> state", "write lambda model, x: model.zero_state(x.shape)")
    check_function("step_fn", step_fn, "(model, state, inputs) -> (outputs, state)", "write a function")
    if state.graphdef is None and apply_fn is None:
        raise ValueError("apply_fn: expected a function for a functional model, got None; give (params, x) -> outputs.")
    if step_example is None and (start_fn is not None or step_fn is not None):
        raise ValueError(
            "step_example: expected the inputs of one step with start_fn and step_fn, got None; give them."
        )
    apply_fn = apply_fn or _called
    start_fn = start_fn or (lambda model, inputs: model.zero_state(jax.tree.leaves(inputs)[0].shape[:1]))
    step_fn = step_fn or (lambda model, state, inputs: model.step(state, inputs))
    held = _on_host(state.averaged() if ema else state)

    def evaluated(function: Callable[..., Any], inputs: Any) -> Any:
        inputs = inputs if preprocess is None else preprocess(None, inputs)
        here = jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, held)
        return apply(here, here.params, lambda model: function(model, inputs), training=False)[0]

    def stepped(carried: Any, inputs: Any) -> Any:
        return evaluated(lambda model, inputs: step_fn(model, carried, inputs), inputs)

    step = None
    if step_example is not None:
        step = Step(step_example, lambda inputs: evaluated(start_fn, inputs), stepped)
    return export_program(
        lambda inputs: evaluated(apply_fn, inputs),
        example,
        shapes=shapes,
        step=step,
        platforms=platforms,
        about=about,
    )


def _called(model: Any, inputs: Any) -> Any:
    try:
        return model(inputs)
    except (ValueError, TypeError) as error:
        if not jax.tree_util.all_leaves([inputs]):
            error.add_note(
                f"example: the model was called as model(inputs) with this {type(inputs).__name__}; give the inputs "
                "alone, or apply_fn=, for example lambda model, inputs: model(inputs[0])."
            )
        raise


def _on_host(state: TrainState) -> TrainState:
    """The state without optimiser and average, its arrays in the host's memory: a program binds them to no device."""

    def fetched(array: Any) -> Any:
        if jnp.issubdtype(array.dtype, jax.dtypes.extended):
            return array
        if not (array.is_fully_addressable or array.is_fully_replicated):
            raise ValueError(
                f"state: expected arrays that this process holds, got {array.sharding} over processes; replicate it "
                "first: parallel.replicate(state)."
            )
        return np.asarray(array)

    return jax.tree.map(fetched, dataclasses.replace(state, opt_state=None, loss_scale=None, ema=None))
