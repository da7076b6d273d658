"""Exported states: preprocessing, evaluation mode, averaged parameters, streams."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import interop, models, train
from jaxnn.data import Examples

pytest.importorskip("flatbuffers", reason="JAX writes exported programs with flatbuffers")

SMALL = {"embed_features": 4, "hidden_features": 5}


def classify(model, batch):
    return model(batch.images)


def test_a_program_predicts_as_the_trained_state_does():
    """With dropout, augmentation, an average and a bfloat16 network; pictures as they are stored."""
    model = models.RowReader((6, 5, 1), hidden=4, dense=4, dropout=0.5, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    state = train.create_state(model, optax.sgd(0.5), jax.random.key(0), ema=0.9)
    augment = train.augment.random_flip
    preprocess = train.image_preprocess(mean=0.3, std=0.2, augmentation=augment)
    rng = np.random.default_rng(0)
    batch = Examples(rng.integers(0, 256, (7, 6, 5, 1), np.uint8), np.arange(7, dtype=np.int32))
    step = train.make_step(train.losses.classification(), preprocess=preprocess)
    for _ in range(3):
        state, _ = step(state, batch)
    results = []
    for ema in (False, True):
        program = train.export(state, batch.images[:1], preprocess=preprocess, ema=ema, about={"classes": [*"ab"]})
        expected = train.predict(state, batch, classify, preprocess=preprocess, ema=ema)
        for n in (7, 1):
            np.testing.assert_allclose(program(batch.images[:n]), expected[:n], rtol=0.02, atol=0.02)
        results.append(np.asarray(expected, np.float32))
    assert np.abs(results[0] - results[1]).max() > 0.1
    assert program.functions["call"].platforms == ("cpu", "cuda", "tpu")


def test_a_named_tuple_is_a_dictionary_and_preprocessing_sees_the_named_tuple():
    state = train.create_state(models.MLP((12, 3), rngs=nnx.Rngs(0)), optax.sgd(0.1), jax.random.key(0))
    batch = Examples(np.full((2, 2, 2, 3), 9, np.uint8), np.zeros(2, np.int32))

    def outputs(model, batch):
        return {"logits": model(batch.images.reshape(-1, 12)), "labels": batch.labels}

    program = train.export(state, batch, outputs, preprocess=train.image_preprocess(), platforms=["cpu", "cuda"])
    got = program({"images": batch.images, "labels": batch.labels})
    assert jax.tree.map(jnp.shape, got) == {"logits": (2, 3), "labels": (2,)}


def test_a_language_model_streams():
    model = models.LanguageModel(7, **SMALL, layers=2, dropout=0.5, rngs=nnx.Rngs(0))
    state = train.create_state(model, optax.sgd(0.1), jax.random.key(0))
    tokens = np.random.default_rng(0).integers(0, 7, (3, 6)).astype(np.int32)
    program = train.export(state, tokens[:1, :2], shapes="b, t", step_example=tokens[:1, 0], platforms=("cpu", "cuda"))
    program.save("model.jaxprogram")
    program = interop.load_program("model.jaxprogram")
    model.eval()
    expected, _ = model(tokens)
    np.testing.assert_allclose(program(tokens)[0], expected, atol=1e-5)
    carried = program.start(tokens[:, 0])
    for t in range(6):
        logits, carried = program.step(carried, tokens[:, t])
        np.testing.assert_allclose(logits, expected[:, t], atol=1e-5)


def test_a_functional_model_and_what_is_refused():
    state = train.create_state({"w": jnp.ones((3, 2))}, optax.sgd(0.1), jax.random.key(0))
    x = np.ones((4, 3), np.float32)
    program = train.export(state, x, lambda params, x: x @ params["w"], platforms=("cpu", "cuda"))
    np.testing.assert_allclose(program(x[:2]), 3)
    with pytest.raises(ValueError, match="apply_fn: expected a function for a functional model, got None"):
        train.export(state, x)
    with pytest.raises(ValueError, match="step_example: expected the inputs of"):
        train.export(state, x, lambda params, x: x, start_fn=lambda params, x: x)
    with pytest.raises(ValueError, match="ema: expected a state with an average"):
        train.export(state, x, lambda params, x: x, ema=True)
    with pytest.raises(ValueError, match="state: expected a TrainState, got"):
        train.export({"w": 1}, x)
