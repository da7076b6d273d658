"""Checks that an argument is a state."""

from typing import Any

from flax import nnx

from jaxnn.train.step.expected import described, is_used_up, used_up
from jaxnn.train.step.state import TrainState


def check_state(state: Any, name: str = "state") -> None:
    """Raises unless something is a `TrainState` whose arrays are there.

    Args:
        state: What was given.
        name: The argument.

    Raises:
        ValueError: If it is something else, the module for instance, or if its arrays were donated.
    """
    if not isinstance(state, TrainState):
        if isinstance(state, nnx.Optimizer | nnx.Module):
            advice = "make it once: state = train.create_state(model, tx, key)"
        else:
            advice = "make it with train.create_state, and give it first"
        raise ValueError(f"{name}: expected a TrainState, got {described(state)}; {advice}.")
    if is_used_up(state):
        raise ValueError(used_up(name))
