"""A wrong object, where training takes something else: what was expected, and what to do."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import data, models, train
from tests.train.toys import MLP, blobs, quadratic

KEY = jax.random.key(0)


def state():
    return train.create_state(jnp.zeros(2), optax.sgd(0.1), KEY)


def examples():
    return jnp.eye(2), jnp.ones(2)


OPTIMISERS = {
    "a name": ("adam", r"got 'adam'; call it: optax\.adam\(1e-3\)"),
    "uncalled": (optax.adam, r"got the function adam; call it: optax\.adam\(1e-3\)"),
    "a learning rate": (1e-3, r"got 0\.001; give for example optax\.adam\(1e-3\)"),
    "of Flax": (lambda: nnx.Optimizer(MLP(), optax.sgd(0.1), wrt=nnx.Param), r"got Optimizer; .*optimizer\.tx"),
}


@pytest.mark.parametrize(("tx", "message"), OPTIMISERS.values(), ids=OPTIMISERS)
def test_an_optimiser_that_is_none(tx, message):
    tx = tx() if message.startswith("got Opt") else tx
    with pytest.raises(ValueError, match=f"tx: expected an Optax optimiser, {message}"):
        train.create_state(MLP(), tx, KEY)


def test_an_optimiser_of_pairs():
    with pytest.raises(ValueError, match=r"tx: expected an optimiser of parameters, got optax\.lookahead.*ema=0\.999"):
        train.create_state(MLP(), optax.chain(optax.lookahead(optax.sgd(0.1), 5, 0.5)), KEY)


def test_batch_statistics_of_linen_are_not_trained():
    variables = {"params": {"w": jnp.ones(2)}, "batch_stats": {"mean": jnp.ones(2)}}
    with pytest.raises(ValueError, match=r"got a Flax Linen module's variables with batch_stats, which no gradient"):
        train.create_state(variables, optax.sgd(0.1), KEY)
    fixed = train.create_state(variables, optax.sgd(0.1), KEY, wrt={"params": True, "batch_stats": False})
    assert fixed.all_params.keys() == variables.keys()


def test_an_object_that_does_what_optax_does_serves():
    tx = optax.MultiSteps(optax.sgd(0.1), 2)
    train.make_step(quadratic)(train.create_state(jnp.zeros(2), tx, KEY), examples())


MODELS = {
    "a class": (models.LeNet, "got the class LeNet; make an instance"),
    "another library's": (collections.Counter, "got the class Counter"),
    "shapes": (nnx.eval_shape(MLP), r"model.*expected a .*Module.*, got ShapeDtypeStruct; make the model itself"),
    "a function": (
        {"f": jnp.tanh},
        r"model\['f'\]: .*a pytree of arrays, got the function .*tanh; give its arrays alone, .* eqx.partition",
    ),
}


@pytest.mark.parametrize(("model", "message"), MODELS.values(), ids=MODELS)
def test_a_model_that_is_none(model, message):
    with pytest.raises(ValueError, match=message):
        train.create_state(model, optax.sgd(0.1), KEY)


def test_a_seed_for_a_key_and_a_key_for_a_seed():
    with pytest.raises(ValueError, match=r"key: expected one random key, got 0; make it with jax\.random\.key\(seed\)"):
        train.create_state(MLP(), optax.sgd(0.1), 0)
    keys = jax.random.split(KEY, 2)
    for make in (
        lambda: train.ensemble.grid(seed=keys),
        lambda: train.ensemble.create(MLP, optax.sgd(0.1), {"seed": keys}),
    ):
        with pytest.raises(ValueError, match=r"seed: expected numbers, got random keys; give seeds"):
            make()


STEP = train.make_step(quadratic)
TAKERS = {
    "step": lambda state: STEP(state, examples()),
    "epoch": lambda state: train.make_epoch(STEP, batch_size=2)(state, examples()),
    "streamed": lambda state: train.loop.StreamedEpoch(STEP, batch_size=2)(state, None),
    "evaluate": lambda state: train.evaluate(state, examples(), quadratic),
    "predict": lambda state: train.predict(state, examples(), lambda w, batch: batch[0] @ w),
    "fit": lambda state: train.fit(state, examples(), quadratic, epochs=1, progress=False),
    "parallel": lambda state: train.parallel(1).state(state),
    "parallel step": lambda state: train.parallel(1).step(STEP)(state, examples()),
    "ensemble": lambda state: train.ensemble.make(STEP)(state, examples()),
    "member": lambda state: train.ensemble.member(state, 0),
    "ensemble.fit": lambda state: train.ensemble.fit(state, examples(), quadratic, epochs=1, progress=False),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_what_takes_a_state_says_so(take):
    for wrong, told in (
        (MLP(), "MLP; make it once: state = train.create_state"),
        ({"w": jnp.ones(2)}, "dict; make"),
    ):
        with pytest.raises(ValueError, match=f"states?: expected a TrainState, got {told}"):
            take(wrong)


@pytest.mark.parametrize("take", [*TAKERS.values(), lambda state: state.model()], ids=[*TAKERS, "model"])
def test_a_state_that_was_donated_is_reported(take):
    used = state()
    jax.tree.map(lambda x: x.delete(), used)
    with pytest.raises(
        ValueError, match=r"states?: expected arrays that are still there, got .*donated.*use what that"
    ):
        take(used)


def test_a_state_that_a_step_was_given_is_reported():
    """As it happens: the result is not assigned."""
    once = state()
    STEP(once, examples())
    with pytest.raises(ValueError, match=r"state: expected arrays that are still there"):
        STEP(once, examples())


def half(model, batch):
    return model


DATASET = data.Dataset("tiny", blobs(4), blobs(4), ("a", "b", "c"))
BATCHES = [examples(), examples()]


class Tensor:
    def __array__(self, dtype=None, copy=None):
        return np.ones((2, 2))


WRONG = {
    "a data set": (DATASET, r"expected examples, got a data set of two parts; take one of them: (data|batch)\.train"),
    "batches": (BATCHES, r"got a list of 2 batches; join them: .*np\.concatenate\(batches\), \*(data|batch)\)"),
    "single examples": ([(np.ones(2), 1)] * 3, r"got a list of 3 examples; join them: .*np\.stack\(examples\)"),
    "tensors": ({"x": Tensor()}, r"got Tensor; convert it: np\.asarray\((data|batch)\['x'\]\)"),
    "a loader": (iter(BATCHES), r"expected arrays, or a pytree of them, got list_iterator; .*data\.Stream"),
    "words": ({"x": np.ones(2), "name": "tiny"}, r"\['name'\]: expected arrays, .*got 'tiny'"),
    "arrays of words": ({"x": np.ones(1), "name": np.array(["tiny"])}, r"\['name'\]: .*got an array of <U4; leave"),
    "another byte order": ({"x": np.ones(2, ">f4")}, r"\['x'\]: .*an array of >f4; convert .*astype\(np\.float32\)"),
    "lists of numbers": ([[0.5] * 9, [1.0] * 9], r"got (data|batch)\[0\]\[0\]: \(\); .*np\.asarray"),
}


@pytest.mark.filterwarnings("ignore:Python iterable type:DeprecationWarning")
@pytest.mark.parametrize(
    ("what", "kind"),
    [
        *((what, kind) for what in ("step", "fit") for kind in WRONG),
        *((what, "words") for what in ("epoch", "evaluate", "predict")),
    ],
)
def test_data_that_are_no_examples(what, kind):
    given, message = WRONG[kind]
    calls = {
        "step": lambda: STEP(state(), given),
        "epoch": lambda: train.make_epoch(STEP, batch_size=2)(state(), given),
        "evaluate": lambda: train.evaluate(state(), given, quadratic),
        "predict": lambda: train.predict(state(), given, lambda w, batch: batch[0] @ w),
        "fit": lambda: train.fit(state(), given, quadratic, progress=False),
    }
    with pytest.raises(ValueError, match=message):
        calls[what]()


def test_integers_that_jax_would_cut_are_refused():
    """2**40 became 0 without a word."""
    given, message = (np.ones((2, 2)), np.array([0, 2**40])), r"data\[1\]: expected integers that fit into int32"
    with pytest.raises(ValueError, match=message):
        train.fit(state(), given, quadratic, progress=False)
    with pytest.raises(ValueError, match=message):
        train.evaluate(state(), given, quadratic)
    with pytest.raises(ValueError, match=message):
        train.predict(state(), given, lambda w, batch: batch[0] @ w)
    assert train.evaluate(state(), (given[0], np.array([0.0, 0.0]), np.array([0, 2**31 - 1])), first_two)["loss"] == 0


def first_two(w, batch, key):
    return quadratic(w, batch[:2], key)


LOSSES = {
    "two arguments": (half, r"\(model, batch, key\) -> .*, got one of \(model, batch\); take these three"),
    "not called": (train.losses.classification, r"call it: train\.losses\.classification\(\.\.\.\)"),
    "of Optax": (optax.squared_error, r"got the function squared_error; write one: .*optax\.squared_error\(model"),
    "a name": ("mse", "got 'mse'; take these three"),
    "a module": (MLP(), "got MLP; take these three"),
    "none": (None, r"got None; write one.*train\.losses\.classification\(\)"),
}


@pytest.mark.parametrize(("loss_fn", "message"), LOSSES.values(), ids=LOSSES)
def test_a_loss_function_that_is_none(loss_fn, message):
    for call in (lambda: train.make_step(loss_fn), lambda: train.evaluate(state(), examples(), loss_fn)):
        with pytest.raises(ValueError, match=f"loss_fn: expected a function .*{message}"):
            call()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            lambda w, batch, key: jnp.mean(batch[0] @ w),
            r"expected \(losses, metrics\) from it, .* an array of shape \(\);",
        ),
        (lambda w, batch, key: batch[0] @ w, r"an array of shape \(\d+,\); return losses, \{\}"),
        (lambda w, batch, key: None, "got None"),
    ],
    ids=["scalar", "losses", "nothing"],
)
def test_a_loss_function_that_returns_something_else(returned, message):
    for call in (
        lambda: train.make_step(returned)(state(), examples()),
        lambda: train.evaluate(state(), examples(), returned),
    ):
        with pytest.raises(ValueError, match=f"loss_fn: .*{message}"):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: train.make_step(quadratic, penalty=1e-4),
            r"penalty: expected a function .*got 0\.0001; take train\.losses\.l2",
        ),
        (
            lambda: train.make_step(quadratic, preprocess=lambda batch: batch),
            r"preprocess: .*\(key, batch\) -> batch, got",
        ),
        (
            lambda: train.make_step(quadratic, preprocess=train.image_preprocess),
            r"preprocess: .*image_preprocess\(\.\.\.\)",
        ),
        (lambda: train.predict(state(), examples(), jnp.tanh), r"apply_fn: .*\(model, batch\) -> outputs, got one of"),
    ],
    ids=["penalty", "preprocess", "preprocess not called", "apply_fn"],
)
def test_other_functions_that_are_none(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_pictures_in_bytes_without_preprocessing_are_told_how_to_become_floats():
    net = models.LeNet((8, 8, 1), rngs=nnx.Rngs(0))
    state = jax.eval_shape(lambda: train.create_state(net, optax.adam(1e-3), KEY))
    batch = {"images": jnp.zeros((2, 8, 8, 1), jnp.uint8), "labels": jnp.zeros(2, jnp.int32)}
    with pytest.raises(ValueError, match="x: expected a floating dtype") as told:
        jax.eval_shape(train.make_step(train.losses.classification()), state, batch)
    assert any("preprocess=train.image_preprocess()" in note for note in told.value.__notes__)
    state = train.create_state(net, optax.adam(1e-3), KEY)
    floats = jax.tree.map(lambda x: x.astype(jnp.float32) if x.ndim == 4 else x, batch)
    with pytest.raises(ValueError, match="x: expected a floating dtype") as told:  # while the labels are checked
        train.fit(state, floats, train.losses.classification(), test_data=batch)
    assert "preprocess=train.image_preprocess()" in (notes := "\n".join(told.value.__notes__))
    assert "evaluation of test_data" in notes


@pytest.mark.parametrize("convert", [float, np.asarray, bool], ids=["float", "NumPy", "if"])
def test_values_that_a_compiled_function_cannot_see(convert):
    def loss_fn(w, batch, key):
        losses = (batch[0] @ w - batch[1]) ** 2
        return losses, {"a": jnp.float32(convert(losses.max()))}

    calls = (
        lambda: train.make_step(loss_fn)(state(), examples()),
        lambda: train.evaluate(state(), examples(), loss_fn),
        lambda: train.predict(state(), examples(), lambda w, batch: loss_fn(w, batch, None)[1]),
    )
    for call in calls:
        with pytest.raises((jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)) as told:
            call()
        assert any("in a sink, with the outputs of train.predict" in note for note in told.value.__notes__)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run": "runs/a"}, r"run: expected a RunFolder or None, got 'runs/a'; write train\.run\.start_run"),
        ({"checkpoints": "a"}, r"checkpoints: expected a Checkpoints or None, got 'a'; write train\.Checkpoints"),
        ({"parallel": 2}, r"parallel: expected a Parallel or None, got 2; write train\.parallel\(\)"),
    ],
    ids=["run", "checkpoints", "parallel"],
)
def test_a_path_or_a_number_where_an_object_is_meant(options, message):
    with pytest.raises(ValueError, match=message):
        train.fit(state(), examples(), quadratic, **options)


def test_a_loss_function_of_no_module_serves():
    def loss_fn(model, batch, key):
        return model(batch[0]).sum(-1), {}

    loss_fn.__module__ = None  # as of one that `exec` makes
    train.make_step(loss_fn)
