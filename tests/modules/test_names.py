"""Constructors of modules and models say which argument was meant."""

import inspect

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import models, modules

MEANT = {
    "LSTM, layers": (lambda **o: modules.LSTM(3, 4, num_layers=2, **o), "num_layers: .* of LSTM, .*; write layers="),
    "LSTM, hidden": (lambda **o: modules.LSTM(3, hidden_size=4, **o), "write hidden_features="),
    "LSTM, batch": (lambda **o: modules.LSTM(3, 4, batch_first=True, **o), r"inputs are \(\*batch, time, features\)"),
    "LSTM, projection": (lambda **o: modules.LSTM(3, 4, proj_size=2, **o), "write projection="),
    "Conv, stride": (lambda **o: modules.Conv(3, 4, (3, 3), strides=2, **o), "write stride="),
    "Conv, groups": (lambda **o: modules.Conv(4, 4, (3, 3), feature_group_count=2, **o), "write groups="),
    "Dense": (lambda **o: modules.Dense(3, units=4, **o), "write out_features="),
    "MaxPool": (lambda rngs: modules.MaxPool(2, strides=2), "of MaxPool, .*write stride="),
    "MaxPool, window": (lambda rngs: modules.MaxPool(window=2), "window: .* of MaxPool, .*; write kernel_size="),
    "Conv, window": (lambda **o: modules.Conv(3, 4, window=3, **o), "of Conv, .*; write kernel_size="),
    "LeNet": (lambda **o: models.LeNet((8, 8, 1), num_classes=3, **o), "write classes="),
    "LanguageModel": (lambda **o: models.LanguageModel(vocab_size=9, **o), "write vocabulary="),
    "seed": (lambda rngs: models.LeNet((8, 8, 1), seed=0), "write rngs="),
    "LSTM, reverse": (lambda **o: modules.LSTM(3, 4, go_backwards=True, **o), "calls of layers take reverse="),
    "LSTM, stateful": (lambda **o: modules.LSTM(3, 4, stateful=True, **o), "stateful: .*a call takes state="),
    "LSTM, both": (lambda **o: modules.LSTM(3, 4, merge_mode="sum", **o), "merge_mode: .*jnp.split"),
    "LSTM, bias": (lambda **o: modules.LSTM(3, 4, unit_forget_bias=True, **o), "write forget_bias="),
    "MaxPool, ceil": (lambda rngs: modules.MaxPool(2, use_ceil=True), "write ceil_mode="),
    "Conv, mask": (lambda **o: modules.Conv(3, 4, (3, 3), mask=jnp.ones(4), **o), r"conv\(x, kernel \* mask\)"),
    "AvgPool, mode": (lambda rngs: modules.AvgPool(2, padding_mode="reflect"), r"pad before the layer: jnp\.pad"),
    "nothing like it": (lambda **o: models.MLP((2, 3), colour=1, **o), "colour: .*it takes features, activation, "),
}


@pytest.mark.parametrize(("make", "message"), MEANT.values(), ids=MEANT)
def test_the_name_that_was_meant_is_reported(make, message):
    with pytest.raises(TypeError, match=message):
        make(rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seq_lengths": jnp.array([2])}, "seq_lengths: expected an argument of GRU, .*write lengths="),
        ({"initial_state": None}, "write state="),
        ({"training": True}, "write deterministic=not training"),
    ],
)
def test_the_name_that_was_meant_in_a_call_is_told(options, message):
    with pytest.raises(TypeError, match=message):
        modules.GRU(3, 4, rngs=nnx.Rngs(0))(jnp.ones((1, 2, 3)), **options)


uncalled, key = jax.nn.initializers.he_normal, jax.random.key(0)

INITIALISERS = {
    "uncalled": (lambda **o: modules.Conv(3, 4, (3,), kernel_init=uncalled, **o), "kernel_init: .* he_normal, which"),
    "none": (lambda **o: modules.Dense(3, 4, bias_init=None, **o), "bias_init: .*got None; make one, for example"),
    "name": (lambda **o: modules.GRU(3, 4, recurrent_kernel_init="he", **o), "recurrent_kernel_init: .*got 'he'"),
    "RNN": (lambda rngs: F.init_rnn(key, 3, 4, bias_init=uncalled), "bias_init: .*returns a function"),
    "LSTM": (lambda rngs: F.init_lstm(key, 3, 4, projection=2, projection_init=uncalled), "projection_init: "),
    "heads": (lambda rngs: F.init_slstm(key, 3, 4, heads=2, recurrent_kernel_init=uncalled), "recurrent_kernel_init: "),
    "pictures": (lambda rngs: F.init_conv_lstm(key, 3, 4, (3,), kernel_init=uncalled), "kernel_init: "),
    "gates": (lambda rngs: F.init_mingru(key, 3, 4, kernel_init=F.per_gate(uncalled, 2)), "init: .*returns a function"),
}


@pytest.mark.parametrize(("make", "message"), INITIALISERS.values(), ids=INITIALISERS)
def test_an_initialiser_that_is_none_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(rngs=nnx.Rngs(0))


ALL = [getattr(package, name) for package in (modules, models) for name in package.__all__ if name != "Encoded"]


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.__name__)
def test_every_module_checks_its_names_and_keeps_its_signature(module):
    parameters = inspect.signature(module.__init__).parameters
    needed = [1 for p in list(parameters.values())[1:] if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    with pytest.raises(TypeError, match=f"no_such_option: expected an argument of {module.__name__}, got an unknown"):
        module(*needed, no_such_option=1, **({"rngs": nnx.Rngs(0)} if "rngs" in parameters else {}))


def test_arguments_that_are_missing_or_without_their_name_are_reported():
    for make, message in (
        (lambda: modules.LSTM(3, 4), r"rngs: expected nnx\.Rngs, .* got none; write rngs=nnx\.Rngs\(0\)"),
        (lambda: modules.Dense(3, 4, nnx.Rngs(0)), "rngs: .* got it without its name; write rngs="),
        (
            lambda: modules.LSTM(3, rngs=nnx.Rngs(0)),
            "LSTM: missing a required argument: 'hidden_features'; it takes in",
        ),
    ):
        with pytest.raises(TypeError, match=message):
            make()


@pytest.mark.parametrize(
    ("rngs", "message"),
    [
        (0, r"rngs: expected nnx\.Rngs, .* got 0; write rngs=nnx\.Rngs\(0\)"),
        (None, r"got None; write rngs=nnx\.Rngs\(0\)"),
        (jax.random.key(0), r"got a key<fry> array; write rngs=nnx\.Rngs\(key\)"),
    ],
    ids=["seed", "none", "key"],
)
@pytest.mark.parametrize(
    "make",
    [
        lambda **o: modules.Dense(2, 3, **o),
        lambda **o: modules.GRU(2, 3, **o),
        lambda **o: modules.Encoder(5, 2, 3, **o),
        lambda **o: models.LeNet5(**o),
        lambda **o: models.LanguageModel(7, **o),
    ],
    ids=["Dense", "GRU", "Encoder", "LeNet5", "LanguageModel"],
)
def test_what_rngs_takes_is_reported(make, rngs, message):
    with pytest.raises(ValueError, match=message):
        make(rngs=rngs)
