"""What a person writes with this library: it has types for strict checkers, and tests through the plugin of pytest."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxnn
from jaxnn import data, models, testing, train
from jaxnn import functional as F


def last_output(params: F.LSTMParams, x: jax.Array) -> jax.Array:
    y, state = F.lstm(params, x, lengths=np.array([3, 5]))
    cells: F.LSTMState = F.lstm_step(params, state, x[:, 0])
    return jnp.concatenate([jaxnn.functional.max_pool(y, (2,))[:, -1], cells.h], axis=-1)


def trained(digits: data.Dataset, epochs: int = 1) -> train.TrainState:
    net = models.LeNet((8, 8, 1), rngs=nnx.Rngs(0))
    state = train.create_state(net, train.optimizer("adam", 1e-3, steps=12 * epochs), jax.random.key(0))
    loss, scaled = train.losses.classification(), train.image_preprocess()
    state, history = train.fit(state, digits.train, loss, preprocess=scaled, epochs=epochs)
    print(state, history[-1])
    return state


@testing.layer_checks(F.dense, batch_axes=(0, None), batch=True, reduction=5)
def test_dense(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return rng.normal(size=5), rng.normal(size=(5, 3))


def test_all_of_it() -> None:
    assert trained(data.load_digits()).step == 12
    x = jax.random.normal(jax.random.key(1), (2, 5, 3))
    assert last_output(F.init_lstm(jax.random.key(0), 3, 4), x).shape == (2, 8)
