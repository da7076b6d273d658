"""On an NVIDIA GPU: the numbers of the CPU, whatever formulation either platform gets, and no waiting for the host."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import models, testing, train
from jaxnn.testing.floating import cast_floating, restrict_to_floating
from tests.cases import CASES, RECURRENT
from tests.functional.recurrent.common import randomised

pytestmark = pytest.mark.gpu


def on(device, function, *args):
    with jax.default_device(device):
        return jax.block_until_ready(function(*jax.device_put(args, device)))


def on_both(function, *args):
    """The result on the GPU and that on the CPU."""
    return tuple(on(jax.devices(platform)[0], function, *args) for platform in (None, "cpu"))


@pytest.mark.parametrize("case", [*(case for case in CASES if case.suites == "all"), *RECURRENT], ids=str)
def test_values_and_gradients_of_every_layer(case):
    def results(*args):
        function, inputs, _ = restrict_to_floating(case.function, args)
        y, pull = jax.vjp(function, inputs)
        return y, pull(y)

    def both(*args):
        return [results(*one) for one in args]

    in_float32, in_bfloat16 = (cast_floating(case.args(), dtype) for dtype in ("float32", "bfloat16"))
    got, expected = on_both(jax.jit(both), in_float32, in_bfloat16)
    roundings = 4 * max(case.roundings, case.derivative_roundings)  # both sides round
    testing.assert_close(got, expected, reduction=1000, roundings=roundings, what=str(case))


ALGORITHMS = {
    "lstm": ("auto", "fused"),
    "gru": ("fused",),
    "mingru": ("auto", "associative", "newton"),
    "minlstm": ("associative",),
    "lru": ("associative",),
}
PAIRS = [(layer, algorithm) for layer, algorithms in ALGORITHMS.items() for algorithm in algorithms]


@pytest.mark.parametrize(("layer", "algorithm"), PAIRS)
def test_algorithms_agree(layer, algorithm):
    params = jax.tree.map(lambda a: a / 2, randomised(getattr(F, f"init_{layer}")(jax.random.key(0), 8, 16)))
    x = jax.random.normal(jax.random.key(1), (4, 100, 8))

    def of(algorithm):
        def loss(params, x):
            y, state = getattr(F, layer)(params, x, lengths=jnp.array([100, 70, 1, 0]), algorithm=algorithm)
            return jnp.sum(jnp.sin(y)), (y, state)

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, x)

    testing.assert_close(of(algorithm), of("scan"), reduction=1000, roundings=100)


def pictures(n):
    rng = np.random.default_rng(0)
    return {"image": rng.normal(size=(n, 8, 8, 1)).astype(np.float32), "label": rng.integers(0, 10, n)}


def new():
    return train.create_state(models.LeNet((8, 8, 1), rngs=nnx.Rngs(0)), optax.adam(1e-3), jax.random.key(0))


def test_a_network_trains_as_on_the_cpu():
    def losses(batch):
        state, step = jax.device_put(new(), batch["image"].sharding), train.make_step(train.losses.classification())
        found = []
        for _ in range(5):
            state, metrics = step(state, batch)
            found.append(metrics["loss"])
        return jnp.stack(found)

    got, expected = on_both(losses, pictures(32))
    assert expected[-1] < expected[0]
    np.testing.assert_allclose(got, expected, rtol=1e-3)


def test_a_compiled_epoch_transfers_nothing():
    epoch = train.make_epoch(train.make_step(train.losses.classification()), batch_size=16)
    data = jax.device_put(pictures(40))
    state, _ = epoch(new(), data)
    with testing.forbid_host_transfers():
        state, metrics = epoch(state, data)
    assert np.all(np.isfinite(metrics["loss"]))
