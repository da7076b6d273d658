"""How far back outputs depend on inputs: finite differences, and a network that fades."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import inspect, modules


class Last(nnx.Module):
    """The sum of the last hidden units."""

    def __init__(self):
        self.rnn = modules.RNN(2, 4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.rnn(x)[:, -1]


def test_reach_is_the_gradient_of_the_sum_by_finite_differences():
    model, inputs, step = Last(), jax.random.normal(jax.random.key(0), (3, 6, 2)), 1e-2
    got = inspect.reach(model, inputs, at_once=2)
    assert got.shape == (6,)
    for t in (0, 5):
        slopes = [
            (model(inputs.at[:, t, f].add(step)) - model(inputs.at[:, t, f].add(-step))).sum(-1) / (2 * step)
            for f in (0, 1)
        ]
        assert got[t] == pytest.approx(float(np.hypot(*slopes).mean()), rel=2e-2)


def test_a_fading_network_has_a_fading_gradient_as_a_function_too():
    params = F.init_rnn(jax.random.key(0), 2, 4)._replace(w_h=0.5 * jnp.eye(4))
    reach = inspect.reach(lambda x: F.rnn(params, x)[0][:, -1], jax.random.normal(jax.random.key(1), (8, 12, 2)))
    assert (reach[:-1] < 0.6 * reach[1:]).all()


def test_inputs_without_examples_are_named():
    with pytest.raises(ValueError, match=r"inputs: expected \(examples, time, features\), got shape \(6, 2\)"):
        inspect.reach(Last(), jnp.ones((6, 2)))
