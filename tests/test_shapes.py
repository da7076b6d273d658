"""What is printed shows arrays by dtype and shape, and parameters by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import data, models, modules, shapes, train
from jaxnn import functional as F


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((2, 3), np.uint8), "uint8[2,3]"),
        (np.float32(0.5), "0.5"),
        (np.zeros(()), "float64[]"),
        (jax.ShapeDtypeStruct((4,), jnp.bfloat16), "bfloat16[4]"),
        ((np.ones(1),), "(float64[1],)"),
        ([1, "a", None, 2.5, True], "[1, 'a', None, 2.5, True]"),
        (tuple("abcdefghijklm"), "('a', 'b', 'c', ... 13 in all)"),
        ({}, "{}"),
        ((), "()"),
    ],
)
def test_of_one_value(value, text):
    assert shapes.text(value) == text


def test_what_does_not_fit_on_a_line_takes_one_for_each_part():
    assert shapes.text({"w" * 60: np.ones(2), "v" * 60: (np.ones(2),)}).splitlines() == [
        "{",
        f"  '{'w' * 60}': float64[2],",
        f"  '{'v' * 60}': (float64[2],),",
        "}",
    ]


def test_parameters_and_states_are_shown_by_shape_also_while_tracing():
    params = F.init_gru(jax.random.key(0), 3, 4)
    text = "GRUParams(w_x=float32[3,12], w_h=float32[4,12], b=float32[12], b_hn=float32[4])"
    assert repr(params) == text
    seen = []
    jax.eval_shape(lambda params: seen.append(str(params)), params)
    assert seen == [text]
    assert repr(params.zero_state((2,), jnp.float32)) == "GRUState(h=float32[2,4])"
    assert repr(jax.tree.map(lambda _: 0, params)) == "GRUParams(w_x=0, w_h=0, b=0, b_hn=0)"


def test_a_training_state_is_read_at_a_glance():
    state = train.create_state(models.LeNet((8, 8, 1), rngs=nnx.Rngs(0)), optax.adam(1e-3), jax.random.key(0))
    lines = repr(state).splitlines()
    assert lines[:3] == [
        "TrainState(",
        "  params={",
        "    'conv1': {'bias': float32[32], 'kernel': float32[3,3,1,32]},",
    ]
    assert len(lines) < 40


def test_a_data_set_is_shown_by_shape():
    examples = data.Examples(np.zeros((5, 8, 8, 1), np.uint8), np.zeros(5, np.int32))
    assert str(examples) == "Examples(images=uint8[5,8,8,1], labels=int32[5])"
    text = str(data.Dataset("many", examples, examples, tuple(f"class {i}" for i in range(100))))
    assert "classes=('class 0', 'class 1', 'class 2', ... 100 in all)" in text


def test_a_module_names_its_parameters():
    text = str(modules.LSTM(3, 4, layer_norm=True, rngs=nnx.Rngs(0)))
    for name in ("params=LSTMParams(", "w_x=Param(", "w_h=Param(", "norm=LSTMNorm(", "c_shift=Param("):
        assert name in text
    assert "peephole=None" in text
