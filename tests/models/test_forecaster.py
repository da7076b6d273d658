"""The forecaster: what it sees of the past, for any cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn.models import Forecaster
from tests.modules.own_cells import learned

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3)), jnp.float32)

LAST = {
    "lstm": ({"kind": "lstm"}, lambda cell: F.lstm(cell.arrays(jnp.float32), X)[1].h),
    "Flax's": ({"cell": nnx.OptimizedLSTMCell}, lambda cell: nnx.RNN(cell)(X)[:, -1]),
    "functional": ({"cell": learned}, lambda cell: F.recurrent(cell.cell, cell.arrays(jnp.float32), X)[1]["h"]),
}


@pytest.mark.parametrize(("options", "last"), LAST.values(), ids=LAST)
def test_it_predicts_from_the_last_output_of_its_layer(options, last):
    model = Forecaster(3, 4, hidden=6, rngs=nnx.Rngs(0), **options)
    np.testing.assert_array_equal(model(X), jnp.zeros((2, 4)))  # untrained
    model.dense.kernel[...] = jax.random.normal(jax.random.key(0), (6, 4))
    expected = last(model.layer.cells[0]) @ model.dense.kernel[...]
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(X[0]), expected[0], rtol=1e-5, atol=1e-6)


def test_a_cell_in_the_place_of_what_makes_one_is_refused():
    with pytest.raises(ValueError, match="cell: expected a function"):
        Forecaster(3, 4, cell=nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))


def test_a_past_of_no_steps_is_refused():
    with pytest.raises(ValueError, match=r"x: expected at least one step .* got shape \(2, 0, 3\)"):
        Forecaster(3, 4, rngs=nnx.Rngs(0))(X[:, :0])
