"""One rule for every array argument: what `jnp.asarray` makes numbers of is served, all else is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import models, modules

RNGS, KEY = nnx.Rngs(0), jax.random.key(0)
SEQUENCES, PICTURES, TOKENS = np.ones((2, 5, 3)), np.ones((2, 12, 12, 3)), np.ones((2, 5), int)
LSTM, KERNEL = F.init_lstm(KEY, 3, 4), np.ones((3, 3, 3, 4))
BOXES = np.ones((4, 4, 2))
STATE = LSTM.zero_state((2,), jnp.float32)

CASES = {
    "conv x": (lambda x: F.conv(x, KERNEL), PICTURES),
    "conv kernel": (lambda kernel: F.conv(PICTURES, kernel), KERNEL),
    "conv bias": (lambda bias: F.conv(PICTURES, KERNEL, bias), np.ones(4)),
    "true_convolution kernel": (lambda kernel: F.true_convolution(PICTURES, kernel), KERNEL),
    "conv_transpose x": (lambda x: F.conv_transpose(x, KERNEL), PICTURES),
    "dense kernel": (lambda kernel: F.dense(SEQUENCES, kernel), np.ones((3, 4))),
    "max_pool x": (lambda x: F.max_pool(x, 2), PICTURES),
    "avg_pool x": (lambda x: F.avg_pool(x, 2), PICTURES),
    "lp_pool x": (lambda x: F.lp_pool(x, 2), PICTURES),
    "global_max_pool x": (F.global_max_pool, PICTURES),
    "global_avg_pool x": (F.global_avg_pool, PICTURES),
    "adaptive_max_pool x": (lambda x: F.adaptive_max_pool(x, 2), PICTURES),
    "adaptive_avg_pool x": (lambda x: F.adaptive_avg_pool(x, 2), PICTURES),
    "feature_maps pictures": (lambda pictures: F.feature_maps(pictures, np.ones((2, 2))), PICTURES),
    "feature_maps kernels": (lambda kernels: F.feature_maps(PICTURES, kernels), np.ones((2, 2))),
    "attention query": (lambda query: F.attention(query, SEQUENCES), SEQUENCES),
    "attention keys": (lambda keys: F.attention(SEQUENCES, keys), SEQUENCES),
    "filter_logits logits": (F.filter_logits, np.ones((2, 5))),
    "encode_boxes boxes": (lambda boxes: F.encode_boxes(boxes, [1, 0], (4, 4, 2), stride=4), np.ones((2, 4))),
    "encode_boxes classes": (
        lambda classes: F.encode_boxes(np.ones((2, 4)), classes, (4, 4, 2), stride=4),
        np.ones(2, int),
    ),
    "decode_boxes heat": (lambda heat: F.decode_boxes(F.BoxMaps(heat, BOXES, BOXES), stride=4, top=1), BOXES),
    "decode_boxes size": (lambda size: F.decode_boxes(F.BoxMaps(BOXES, size, BOXES), stride=4, top=1), BOXES),
    "log_mel x": (lambda x: F.log_mel(x, 8000), np.ones(400)),
    "ctc_greedy logits": (F.ctc_greedy, SEQUENCES),
    "ctc_beam_search logits": (lambda logits: F.ctc_beam_search(logits, beams=2), SEQUENCES),
    "lstm x": (lambda x: F.lstm(LSTM, x), SEQUENCES),
    "lstm_step x": (lambda x: F.lstm_step(LSTM, STATE, x), SEQUENCES[:, 0]),
    "lstm lengths": (lambda lengths: F.lstm(LSTM, SEQUENCES, lengths=lengths), np.array([3, 5])),
    "lstm mask": (lambda mask: F.lstm(LSTM, SEQUENCES, mask=mask), SEQUENCES[..., 0] > 0),
    "modules.Conv x": (modules.Conv(3, 4, 3, rngs=RNGS), PICTURES),
    "modules.Dense x": (modules.Dense(3, 4, rngs=RNGS), SEQUENCES),
    "modules.MaxPool x": (modules.MaxPool(2), PICTURES),
    "modules.Flatten x": (modules.Flatten(), PICTURES),
    "modules.LSTM x": (modules.LSTM(3, 4, rngs=RNGS), SEQUENCES),
    "modules.Recurrent x": (modules.Recurrent(nnx.GRUCell(3, 4, rngs=RNGS)), SEQUENCES),
    "modules.Encoder tokens": (modules.Encoder(11, 4, 6, rngs=RNGS), TOKENS),
    "models.LeNet x": (models.LeNet((12, 12, 3), rngs=RNGS), PICTURES),
    "models.LeNet5 x": (models.LeNet5((12, 12, 3), rngs=RNGS), PICTURES),
    "models.Cifar10Net x": (models.Cifar10Net((12, 12, 3), rngs=RNGS), PICTURES),
    "models.RowReader x": (models.RowReader((12, 12, 3), rngs=RNGS), PICTURES),
    "models.Detector x": (models.Detector(3, 4, rngs=RNGS), PICTURES),
}
OPTIONAL = ("conv bias", "lstm lengths", "lstm mask")


@pytest.mark.parametrize("name", CASES)
def test_nested_lists_give_what_arrays_give(name):
    """Shapes and dtypes: the values are those of one array, and nothing is compiled here."""
    layer, value = CASES[name]
    got, expected = (jax.eval_shape(lambda given=given: layer(given)) for given in (value.tolist(), jnp.asarray(value)))
    assert jax.tree.map(str, got) == jax.tree.map(str, expected)


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_array_of_numbers_is_refused_by_the_name_of_the_argument(name):
    layer, value = CASES[name]
    part = value.tolist()
    others = [None, "text", object(), np.full(value.shape, "a"), [part, part[:1]], [None, 1.0], {"x": value}, KEY]
    for other in others[name in OPTIONAL :]:
        with pytest.raises(ValueError, match=rf"^{name.split()[1]}: expected (an array of numbers|one array), got "):
            layer(other)


def test_advice_of_a_refused_dtype_works_for_a_list():
    with pytest.raises(ValueError, match=r"kernels: expected a floating dtype.*jnp\.asarray\(kernels, jnp\.float32\)"):
        F.feature_maps(PICTURES, [[-1, 0], [0, 1]])
    assert F.feature_maps(PICTURES, jnp.asarray([[-1, 0], [0, 1]], jnp.float32)).shape == (2, 11, 11, 1)


def test_parameters_that_are_lists_or_missing_are_named():
    with pytest.raises(ValueError, match=r"params\.w_x: expected an array, got list; make one with jnp\.asarray"):
        F.lstm(LSTM._replace(w_x=np.ones((3, 16)).tolist()), SEQUENCES)
    with pytest.raises(ValueError, match=r"params\.b: expected an array, got NoneType"):
        F.lstm(LSTM._replace(b=None), SEQUENCES)


def test_a_state_in_a_plain_tuple_is_reported_its_names():
    with pytest.raises(ValueError, match=r"state: expected LSTMState, got tuple; write LSTMState\(h, c\)"):
        F.lstm(LSTM, SEQUENCES, tuple(STATE))


HELD = {
    "lengths": (lambda n: F.rnn(F.init_rnn(KEY, 3, 2), SEQUENCES, lengths=n), np.array([3, 5])),
    "attention lengths": (lambda n: F.attention(SEQUENCES, SEQUENCES, lengths=n), np.array([3, 5])),
    "temperature": (lambda t: F.filter_logits(np.ones((2, 5)), temperature=t), np.float32(0.5)),
    "dropout": (lambda rate: F.stack(F.lstm, [LSTM], SEQUENCES, dropout=rate, key=KEY), np.float32(0.5)),
    "tokens": (modules.Encoder(11, 4, 6, rngs=RNGS), TOKENS),
}


@pytest.mark.parametrize("name", HELD)
def test_a_variable_of_a_module_holds_a_traced_number(name):
    function, value = HELD[name]
    expected = function(value)
    got = nnx.jit(lambda variable: function(variable))(nnx.Variable(jnp.asarray(value)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, expected)


class Held:
    """What has nothing but the method by which `jnp.asarray` converts it."""

    def __init__(self, value):
        self.value = value

    def __jax_array__(self):
        return jnp.asarray(self.value)


@pytest.mark.parametrize("name", HELD)
def test_an_object_that_jax_converts_is_an_array(name):
    function, value = HELD[name]
    expected = function(value)
    for got in (function(Held(value)), jax.jit(lambda value: function(Held(value)))(value)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, expected)
