"""Models converted to ONNX by `jax2onnx` give in onnxruntime what they give here: `make test-onnx`."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import kernels, models, modules
from tests.cases import CASES
from tests.test_cases import float32

why = "jax2onnx holds Orbax back, so it is not among the tests' packages: make test-onnx"
onnxruntime = pytest.importorskip("onnxruntime", reason=why)
to_onnx = pytest.importorskip("jax2onnx", reason=why, exc_type=ImportError).to_onnx

PAGE = Path(__file__).parents[2] / "docs" / "programs.md"


@pytest.fixture(autouse=True)
def _promotion_as_a_person_has_it():
    """The converter has rules of its own for functions of `jax.numpy`, which promote."""
    onnxruntime.set_default_logger_severity(3)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def floats(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def tokens(*shape):
    return np.random.default_rng(0).integers(0, 11, shape).astype(np.int32)


def pictures(side, channels):
    return lambda b: (floats(b, side, side, channels),)


def evaluated(make):
    model = make(nnx.Rngs(0))
    model.eval()
    return model


def decoded(rngs, **options):
    """An encoder and a decoder that attends over it, trained by teacher forcing."""
    encoder = modules.Encoder(11, 4, 5, return_state=True, rngs=rngs, **options)
    decoder = modules.Decoder(11, 4, 5, memory_features=encoder.out_features, rngs=rngs, **options)
    return nnx.Dict(encoder=encoder, decoder=decoder)


SMALL = {"embed_features": 4, "hidden_features": 5}
KINDS = ("rnn", "gru", "lstm")
MODELS = {
    "LeNet": (lambda r: models.LeNet((8, 8, 1), filters=(2, 3), hidden=4, rngs=r), pictures(8, 1)),
    "LeNet5": (lambda r: models.LeNet5(rngs=r), pictures(32, 1)),
    "Cifar10Net": (lambda r: models.Cifar10Net((12, 12, 3), filters=(2, 3), hidden=4, rngs=r), pictures(12, 3)),
    "MLP": (lambda r: models.MLP((4, 8, 3), activation=jnp.tanh, rngs=r), lambda b: (floats(b, 4),)),
    "RowReader": (lambda r: models.RowReader((8, 8, 1), hidden=4, layers=2, dropout=0.5, rngs=r), pictures(8, 1)),
    **{
        f"Forecaster of {kind}": (
            lambda r, kind=kind: models.Forecaster(3, horizon=5, hidden=4, kind=kind, rngs=r),
            lambda b: (floats(b, 3 + b, 3),),
        )
        for kind in KINDS
    },
    **{
        f"LanguageModel of {kind}": (
            lambda r, kind=kind: models.LanguageModel(11, **SMALL, kind=kind, dropout=0.5, rngs=r),
            lambda b: (tokens(b, 3 + b),),
        )
        for kind in KINDS
    },
    "Encoder with lengths": (
        lambda r: modules.Encoder(11, 4, 5, kind="gru", rngs=r),
        lambda b: (tokens(b, 6), tokens(b) % 7),
    ),
}


def assert_converts(function, *batches):
    """Converts with open axes where the batches differ, and compares what onnxruntime computes for each."""
    shapes = []
    for one, other in zip(*batches, strict=True):
        sizes = [n if n == m else "BT"[axis] for axis, (n, m) in enumerate(zip(one.shape, other.shape, strict=True))]
        shapes.append(jax.ShapeDtypeStruct(sizes, one.dtype))
    with kernels.plain():
        converted = to_onnx(function, inputs=shapes)
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    for batch in batches:
        got = session.run(None, {value.name: array for value, array in zip(session.get_inputs(), batch, strict=True)})
        expected = jax.tree.leaves(function(*map(jnp.asarray, batch)))
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_every_model(name):
    make, arguments = MODELS[name]
    model = evaluated(make)
    if name.startswith("Forecaster"):
        model.dense.kernel[...] = floats(4, 5)  # zero before training

    def call(x, *lengths):
        return model(x, lengths=lengths[0]) if lengths else model(x)

    assert_converts(call, arguments(1), arguments(3))


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_of_a_stream(kind):
    model = evaluated(lambda r: models.LanguageModel(11, **SMALL, kind=kind, layers=2, rngs=r))
    structure = jax.tree.structure(model.zero_state((1,)))

    def step(token, *state):
        return model.step(jax.tree.unflatten(structure, state), token)

    def arguments(b):
        return tokens(b), *(floats(*leaf.shape) for leaf in jax.tree.leaves(model.zero_state((b,))))

    assert_converts(step, arguments(1), arguments(3))


@pytest.mark.parametrize("kind", KINDS)
def test_encoder_and_decoder(kind):
    both = evaluated(lambda r: decoded(r, kind=kind))
    encoder, decoder = both.encoder, both.decoder
    assert_converts(lambda x, y: decoder(y, encoder(x))[0], *((tokens(b, 6), tokens(b, 5)) for b in (1, 3)))
    if kind == "lstm":

        def written(x):
            return decoder.generate(encoder(x), start=0, end=1, max_length=4).tokens

        assert_converts(written, (tokens(2, 6),), (tokens(2, 6),))


LAYERS = (
    *("conv 1d without bias", "conv causal", "conv groups", "conv circular", "conv_transpose pairs and output padding"),
    *("conv_transpose groups", "conv_transpose 1d valid", "max_pool 3d", "max_pool dilated", "avg_pool 3d"),
    *("avg_pool ceil mode and padding", "lp_pool p = 1", "adaptive_max_pool uneven", "global_max_pool 2d", "attention"),
    *("lstm peephole", "lstm projection", "lstm coupled", "lstm layer norm", "gru heads", "slstm", "minlstm log-space"),
    *("gru reset before, lengths, backward", "mingru", "conv_lstm 2d, peephole", "stack"),
)
NOT_CONVERTED = (
    *("conv 3d valid", "conv_transpose 3d", "conv replicate", "lp_pool 2d", "lru lengths, backward", "newton"),
    "mingru log-space, associative, lengths",
)
NAMED = {case.name: case for case in CASES}


def flat(case):
    """The layer as a function of arrays, and its arguments for two batches."""
    one, three = (float32(case.args(batch=(batch,))) for batch in (1, 3))
    structure = jax.tree.structure(one)

    def layer(*leaves):
        return jax.tree.leaves(case.function(*jax.tree.unflatten(structure, leaves)))

    return layer, jax.tree.leaves(one), jax.tree.leaves(three)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    assert_converts(*flat(NAMED[name]))


@pytest.mark.parametrize("name", NOT_CONVERTED)
def test_what_the_page_says_does_not_convert_raises(name):
    """If one of these fails, the page can promise more."""
    try:
        assert_converts(*flat(NAMED[name]))
    except AssertionError:
        raise
    except Exception:
        return
    pytest.fail("converted")


def test_the_recipe_of_the_page_runs():
    (recipe,) = re.findall(r"```py\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names = {"np": np, "nnx": nnx, "models": models}
    exec(recipe, names)
    assert names["logits"].shape == (3, 10)
