"""Complex input is refused, without advice that drops its imaginary part."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import modules
from tests.cases import CASES
from tests.test_cases import float32

Z = jnp.ones((2, 5, 3), jnp.complex64)


def assert_refused(function, *args):
    with pytest.raises(ValueError, match=re.escape("jnp.concatenate([z.real, z.imag], axis=-1)")) as error:
        jax.eval_shape(function, *args)
    assert "astype" not in str(error.value)


@pytest.mark.parametrize("case", [case for case in CASES if "gradient" not in case.name], ids=str)
def test_every_layer_refuses_complex_arrays(case):
    """All of them, and the first one alone."""

    def complexed(leaf):
        return leaf.astype(np.complex64) if leaf.dtype == np.float32 else leaf

    first, *rest = float32(case.args())
    assert_refused(case.function, jax.tree.map(complexed, first), *rest)
    assert_refused(case.function, *jax.tree.map(complexed, (first, *rest)))


def step(state, token):
    return jnp.ones((*token.shape, 3), jnp.complex64), state


OTHERS = {
    "filter_logits": lambda: F.filter_logits(Z),
    "greedy": lambda: F.greedy(step, (), jnp.zeros(2, jnp.int32), max_length=2),
    "beam_search": lambda: F.beam_search(step, (), jnp.zeros(2, jnp.int32), beams=2, max_length=2),
    "recurrent state": lambda: F.rnn(F.init_rnn(jax.random.key(0), 3, 4), Z.real, F.RNNState(Z[:, :4, 0])),
    "dense module": lambda: modules.Dense(3, 2, dtype=jnp.float32, rngs=nnx.Rngs(0))(Z),
    "conv module": lambda: modules.Conv(3, 2, (3,), dtype=jnp.float32, rngs=nnx.Rngs(0))(Z),
    "complex parameters": lambda: modules.Dense(3, 2, param_dtype=jnp.complex64, rngs=nnx.Rngs(0))(Z.real),
    "GRU module": lambda: modules.GRU(3, 2, dtype=jnp.float32, rngs=nnx.Rngs(0))(Z),
    "GRU cell": lambda: modules.GRUCell(3, 2, dtype=jnp.float32, rngs=nnx.Rngs(0))(
        F.GRUState(jnp.ones((2, 2))), Z[:, 0]
    ),
}


@pytest.mark.parametrize("call", OTHERS.values(), ids=OTHERS)
def test_so_do_decoding_states_and_modules_that_cast(call):
    assert_refused(call)
