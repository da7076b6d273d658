"""Training a part of a model: what is frozen costs neither memory nor work, and stays whole."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import inspect, models, train
from jaxnn.train.checkpoint import fingerprint
from tests.train.toys import MLP, ConvNet, blobs, copy, equal, pictures

LOSS = train.losses.classification()
STEP = train.make_step(LOSS)
KEY = jax.random.key(0)
HEAD = nnx.PathContains("out")


def products(state):
    """Matrix products of a step, forward and backward."""
    return STEP.lower(state, blobs(8)).as_text().count("stablehlo.dot_general")


def size(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_what_is_frozen_takes_no_memory_of_the_optimiser_and_no_product_of_the_gradient():
    whole, head = (train.create_state(MLP(), optax.adam(0.1), KEY, wrt=wrt) for wrt in (None, HEAD))
    assert size(head.opt_state) == 2 * size(head.params) + 1 == 2 * (16 * 3 + 3) + 1
    assert size(head.params) + size(head.frozen) == size(whole.params)
    assert products(whole) == 5  # two forward; two gradients of weights, one of the hidden layer's outputs
    assert products(head) == 3  # two forward, one gradient


def test_a_kernel_of_a_frozen_layer_has_no_gradient_where_the_layer_before_it_is_trained():
    """The package's own gradients of convolutions compute both, of which the compiler drops one."""

    def flops(wrt):
        model = models.LeNet((8, 8, 1), rngs=nnx.Rngs(0))
        state = train.create_state(model, optax.sgd(0.1), KEY, wrt=wrt)
        batch = np.zeros((4, 8, 8, 1), np.float32), np.zeros(4, np.int32)
        return STEP.lower(state, batch).compile().cost_analysis()["flops"]

    assert flops(nnx.PathContains("conv1")) < 0.8 * flops(None)


@pytest.mark.parametrize("functional", [False, True])
def test_a_step_moves_what_is_trained_as_if_all_were_and_nothing_else(functional):
    if functional:
        params = {"hidden": {"w": jnp.ones((6, 4)) / 3}, "out": {"w": jnp.ones((4, 3)), "b": jnp.zeros(3)}}
        loss_fn = train.losses.classification(
            apply_fn=lambda p, batch: jnp.tanh(batch.images @ p["hidden"]["w"]) @ p["out"]["w"] + p["out"]["b"][None]
        )
        model, wrt, step = params, {"hidden": False, "out": True}, train.make_step(loss_fn)
        assert equal(
            train.create_state(model, optax.sgd(0.1), KEY, wrt=lambda p: {"hidden": False, "out": True}).params,
            train.create_state(model, optax.sgd(0.1), KEY, wrt=wrt).params,
        )
    else:
        model, wrt, step = MLP(), HEAD, STEP
    before = train.create_state(model, optax.sgd(0.1), KEY)
    whole, _ = step(copy(before), blobs(8))
    state, metrics = step(train.create_state(model, optax.sgd(0.1), KEY, wrt=wrt), blobs(8))
    assert equal(state.all_params["hidden"], before.params["hidden"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state.params["out"], whole.params["out"])
    assert jax.tree.structure(state.all_params) == jax.tree.structure(whole.params)
    gradient = jax.tree.map(lambda a, b: (a - b) / 0.1, whole.params["out"], before.params["out"])
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(gradient), rtol=1e-4)
    model = state.model()
    assert equal(model if functional else nnx.to_pure_dict(nnx.state(model, nnx.Param)), state.all_params)


def test_penalties_see_what_is_trained():
    state = train.create_state(
        {"a": jnp.ones((2, 2)), "b": jnp.ones((3, 3))}, optax.sgd(0.1), KEY, wrt={"a": True, "b": False}
    )
    step = train.make_step(
        lambda p, batch, key: (p["a"][0, 0] * p["b"][0, 0] * batch, {}), penalty=train.losses.l2(1.0)
    )
    _, metrics = step(state, jnp.ones(2))
    assert float(metrics["penalty"]) == 4


def test_adapters_of_low_rank_and_batch_statistics():
    """LoRA trains its two factors; statistics are no parameters and follow the data."""

    class Adapted(ConvNet):
        def __init__(self):
            super().__init__()
            self.out = nnx.LoRALinear(4, 3, lora_rank=2, rngs=nnx.Rngs(1))

    state = train.create_state(Adapted(), optax.adam(0.1), KEY, wrt=nnx.LoRAParam)
    assert size(state.params) == 4 * 2 + 2 * 3
    before, statistics = copy(state.frozen), copy(state.variables["norm"])
    state, history = train.fit(
        state, pictures(12), LOSS, epochs=2, batch_size=6, preprocess=train.image_preprocess(), progress=False
    )
    assert equal(state.frozen, before)
    assert not equal(state.variables["norm"], statistics)
    assert state.params["out"]["lora"]["lora_b"].any()  # starts at zero
    assert np.isfinite(history[-1]["train_loss"])


def test_checkpoints_ensembles_and_shards_hold_what_is_frozen():
    def create(key=KEY):
        return train.create_state(MLP(), optax.adam(0.1), key, wrt=HEAD, ema=0.9)

    with train.checkpoint.Saver(train.Checkpoints("saved")) as saver:
        saver.save(create(), train.checkpoint.options.Position(), wait=True)
    other = train.create_state(MLP(seed=1), optax.adam(0.1), KEY, wrt=HEAD, ema=0.9)
    with train.checkpoint.Saver(train.Checkpoints("saved", resume=True)) as saver:
        found, _ = saver.restore(other)
        assert equal(found, create())
        with pytest.raises(train.checkpoint.CheckpointError, match="the model and optimiser in"):
            saver.restore(train.create_state(MLP(), optax.adam(0.1), KEY))

    states = train.ensemble.create(lambda key: MLP(), optax.adam(0.1), {"seed": [3, 4]}, wrt=HEAD, ema=0.9)
    batch = jax.tree.map(jnp.asarray, blobs(8))
    many, _ = train.ensemble.make(STEP)(states, batch)
    alone, _ = STEP(create(jax.random.key(4)), batch)
    member = train.ensemble.member(many, 1)
    for name in ("params", "frozen", "ema"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
            getattr(member, name), getattr(alone, name),
        )  # fmt: skip


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
def test_frozen_and_averaged_parameters_are_split_over_devices():
    parallel = train.parallel(2, shard=2)
    wide = {"frozen": jnp.ones((64, 64)), "trained": jnp.ones((64, 64))}
    state = parallel.state(
        train.create_state(wide, optax.adam(0.1), KEY, wrt={"frozen": False, "trained": True}, ema=0.9)
    )
    for array in (state.frozen["frozen"], state.params["trained"], state.ema["trained"]):
        assert array.sharding.shard_shape(array.shape) in ((32, 64), (64, 32))


def test_names_of_arrays_in_checkpoints_stay_those_of_states_without_either():
    state = train.create_state({"w": jnp.ones(2)}, optax.sgd(0.1), KEY)
    assert set(fingerprint.arrays(state)) == {".params['w']", ".key", ".step"}


def test_the_summary_counts_all():
    state = train.create_state(MLP(), optax.sgd(0.1), KEY, wrt=HEAD)
    assert inspect.summary(state.all_params) == inspect.summary(MLP())


@pytest.mark.parametrize(
    ("model", "wrt", "message"),
    [
        (
            MLP(),
            nnx.PathContains("head"),
            r"wrt: expected it to pick a parameter at least, got none with .* of the model's \['hidden'\]\['bias'\], ",
        ),
        ({"w": jnp.ones(2)}, {"w": False}, "wrt: expected it to pick a parameter at least"),
        ({"w": jnp.ones(2)}, nnx.PathContains("w"), "wrt: expected a flax.nnx filter for a module, .* a tree of bools"),
        ({"w": jnp.ones(2)}, {"v": True}, "wrt: expected .* or for a functional model a tree of bools"),
        ({"w": jnp.ones(2)}, {"w": 1}, "wrt: expected .* or for a functional model a tree of bools"),
        (MLP(), {"out": True}, "wrt: expected a flax.nnx filter for a module"),
    ],
)
def test_what_picks_nothing_is_reported(model, wrt, message):
    with pytest.raises(ValueError, match=message):
        train.create_state(model, optax.sgd(0.1), KEY, wrt=wrt)
