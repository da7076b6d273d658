"""`layer_checks` on layers of this library: one test id for each property and dtype."""

import jax
import numpy as np

from jaxnn import functional as F
from jaxnn import testing
from tests import oracles, oracles_recurrent


@testing.layer_checks(
    F.dense, oracle=oracles.dense, batch_axes=(0, None, None), batch=True, reduction=5, sum_of_products=True
)
def test_dense(rng):
    return rng.normal(size=5), rng.normal(size=(5, 3)), rng.normal(size=3)


@testing.layer_checks(
    F.conv, oracle=oracles.conv, batch_axes=(0, None, None), batch=True, reduction=18, sum_of_products=True, order=2
)
def test_conv(rng):
    return rng.normal(size=(5, 4, 2)), rng.normal(size=(3, 3, 2, 3)), rng.normal(size=3)


def gru(params, x):
    return F.gru(params, x)[0]


def gru_in_numpy(params, x):
    y, _ = oracles_recurrent.batch(oracles_recurrent.gru_step, params, x, (np.zeros((*x.shape[:-2], 3)),))
    return y


@testing.layer_checks(
    gru, oracle=gru_in_numpy, batch_axes=(None, 0), batch=True, reduction=12, roundings=24, derivative_roundings=24
)
def test_gru(rng):
    shapes = jax.eval_shape(lambda: F.init_gru(jax.random.key(0), 2, 3))
    return jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape), shapes), rng.normal(size=(4, 2))
