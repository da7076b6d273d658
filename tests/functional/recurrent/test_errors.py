"""Bad input is named, with what was expected and what came."""

import jax
import jax.numpy as jnp
import pytest

from jaxnn import functional as R
from jaxnn import modules

P = R.init_lstm(jax.random.key(0), 3, 4)
X = jnp.ones((2, 5, 3))
STATE = P.zero_state((2,), jnp.float32)
RNN = R.init_rnn(jax.random.key(0), 3, 4)
SUM = R.Cell(lambda params, batch, dtype: jnp.zeros((*batch, 3), dtype), lambda params, state, x: state + x)


def parts(params, batch, dtype):
    return {"h": jnp.zeros((*batch, 3), dtype), "n": jnp.zeros(batch, dtype)}


CALLS = {
    "features": (lambda: R.lstm(P, jnp.ones((2, 5, 7))), r"x: expected .* the 3 features .* got 7 features"),
    "several inputs": (lambda: R.lstm(P, (X, X)), "x: expected one array, got tuple; concatenate several inputs"),
    "state as inputs": (lambda: R.lstm_step(P, X[:, 0], STATE), r"x: expected one array, got LSTMState; the order is"),
    "layer as step": (
        lambda: R.stack_step(R.lstm, [P], [STATE], X[:, 0]),
        r"step: expected a function \(params, state, x",
    ),
    "maker of cells as step": (lambda: R.stack_step(R.lstm_cell, [P], [STATE], X[:, 0]), "step: .* got lstm_cell"),
    "options beside a cell": (
        lambda: R.stack_step(R.lstm_cell(), [P], [STATE], X[:, 0], activation=jax.nn.relu),
        "options: expected none for a Cell, got activation; bind them",
    ),
    "an option of the cell beside it": (
        lambda: R.stack(R.lstm_cell(), [P], X, activation=jax.nn.relu),
        "options: expected those of recurrent for a Cell, got activation; bind the cell's own",
    ),
    "step as layer": (
        lambda: R.stack(R.lstm_step, [P], X),
        r"layer: expected a function \(params, x, state\) or a Cell",
    ),
    "maker of cells as layer": (lambda: R.bidirectional(R.lstm_cell, P, P, X), "layer: .* got lstm_cell"),
    "no state": (
        lambda: R.lstm_step(P, None, X[:, 0]),
        "state: expected LSTMState, got NoneType; start with zero_state",
    ),
    "fields as parameters": (
        lambda: R.lstm(P._asdict(), X),
        "params: expected LSTMParams, got dict; its fields are w_x",
    ),
    "ragged sequences": (
        lambda: R.lstm(P, [X[0], X[1, :2]]),
        "x: expected one array, got list; np.stack sequences, pad",
    ),
    "numbers as zero state": (
        lambda: R.recurrent(SUM._replace(zero_state=lambda params, batch, dtype: (jnp.zeros(batch), 0)), 0.5, X),
        r"cell\.zero_state: expected arrays \(\*batch, \.\.\.\) with the batch axes \(2,\), got 0 at \[1\]; make",
    ),
    "zero state without batch axes": (
        lambda: R.recurrent_step(SUM._replace(zero_state=lambda *_: jnp.zeros(3)), 0.5, X[:, 0], X[:, 0]),
        r"cell\.zero_state: expected .* \(2,\), got float32\[3\]",
    ),
    "seed as key": (lambda: R.init_lstm(0, 3, 4), r"key: expected a random key, got 0; make it with jax\.random\.key"),
    "name of an activation": (lambda: R.rnn(RNN, X, activation="relu"), "activation: expected a function, got 'relu'"),
    "no feature axis": (
        lambda: R.rnn(R.init_rnn(jax.random.key(0), 1, 4), jnp.ones(3)),
        r"got shape \(3,\); its feature axis is missing: x\[\.\.\., None\]",
    ),
    "a module's inputs": (
        lambda: modules.Recurrent(modules.Cell(R.lstm_cell(), P))([X, X]),
        "x: expected one array, got list",
    ),
    "number as state": (lambda: R.rnn(RNN, X, R.RNNState(0.0)), r"state\.h: expected shape \(2, 4\), .* got \(\)"),
    "number as state of a step": (
        lambda: R.rnn_step(RNN, R.RNNState(0.0), X[:, 0]),
        r"state\.h: expected shape \(2, 4\), .* got \(\)",
    ),
    "option among the parameters": (
        lambda: R.recurrent(SUM, {"decay": 0.5, "how": "tanh"}, X),
        r"params\['how'\]: expected an array, got str; bind options",
    ),
    "parts of a state": (
        lambda: R.recurrent(SUM._replace(zero_state=parts), 0.5, X, {"h": STATE.h}),
        r"state: expected \{'h': float32\[2,3\], 'n': float32\[2\]\}, got \{'h': float32\[2,4\]\}",
    ),
    "parts of a step's state": (
        lambda: R.recurrent(SUM._replace(zero_state=parts, step=lambda params, state, x: {"h": x}), 0.5, X),
        r"cell\.step: expected .* 'n': float32\[2\]\}, as zero_state does, got \{'h': float32\[2,3\]\}; return",
    ),
    "output without batch axes": (
        lambda: R.recurrent(SUM._replace(output=lambda params, state: {"h": state, "sum": state.sum()}), 0.5, X),
        r"cell\.output: expected arrays \(\*batch, \.\.\.\) with the batch axes \(2,\), got shape \(\) at \['sum'\]",
    ),
    "symbolic number of steps": (
        lambda: jax.eval_shape(
            lambda x: R.rnn(RNN, x, remat=2), jax.ShapeDtypeStruct(jax.export.symbolic_shape("2, t, 3"), X.dtype)
        ),
        r"remat: expected a divisor of the number of steps .* got 2 for t steps; name them '2\*n'",
    ),
    "no time axis": (lambda: R.lstm(P, jnp.ones(3)), r"x: expected \(\*batch, time, features\).*got shape \(3,\)"),
    "time-major": (lambda: R.lstm(P, jnp.ones(3), time_major=True), r"\(time, \*batch, features\)"),
    "integers": (lambda: R.lstm(P, jnp.ones((2, 5, 3), jnp.int32)), "x: expected floating point, got int32"),
    "complex": (lambda: R.lstm(P, jnp.ones((2, 5, 3), jnp.complex64)), "x: expected real numbers, got complex64"),
    "dtypes": (lambda: R.lstm(P, X.astype(jnp.bfloat16)), "params: expected the dtype of x, bfloat16, got float32"),
    "complex weights": (
        lambda: R.lstm(P._replace(w_h=P.w_h.astype(jnp.complex64)), X),
        r"params\.w_h: expected real numbers, got complex64",
    ),
    "mixed weights": (lambda: R.lstm(P._replace(b=P.b.astype(jnp.bfloat16)), X), r"params\.b: expected the dtype"),
    "other layer": (lambda: R.gru(P, X), "params: expected GRUParams, got LSTMParams"),
    "batch of state": (lambda: R.lstm(P, X, P.zero_state((3,), X.dtype)), r"state\.h: .* \(2, 4\).* got \(3, 4\)"),
    "no batch of state": (lambda: R.lstm(P, X, P.zero_state((), X.dtype)), r"state\.h: .* got \(4,\)"),
    "state type": (
        lambda: R.lstm(P, X, (STATE.h, STATE.c)),
        r"state: expected LSTMState, got tuple; write LSTMState\(h, c\)\.",
    ),
    "cell dtype": (
        lambda: R.lstm(P, X, STATE._replace(c=STATE.c.astype(jnp.bfloat16))),
        r"state\.c: expected float32 for x of float32, got bfloat16",
    ),
    "lengths above": (lambda: R.lstm(P, X, lengths=jnp.array([5, 6])), r"lengths: expected 0\.\.5.*\[6\]"),
    "lengths below": (lambda: R.lstm(P, X, lengths=[-1, 3]), r"lengths: expected 0\.\.5.*\[-1\]"),
    "lengths, time first": (lambda: R.lstm(P, X, lengths=[3] * X.shape[1]), r"batches come before time: jnp\.swap"),
    "lengths float": (lambda: R.lstm(P, X, lengths=jnp.ones(2)), r"convert them: lengths\.astype\(jnp\.int32\)"),
    "lengths shape": (lambda: R.lstm(P, X, lengths=[3]), r"lengths: expected .* \(2,\), .* of shape \(1,\)"),
    "lengths dtype": (
        lambda: R.lstm(P, X, lengths=[3.0, 2.0]),
        r"lengths: expected integers of .* axes of x, got float32",
    ),
    "resets shape": (lambda: R.lstm(P, X, resets=[True, False]), r"resets: expected .* shape \(2, 5\), got \(2,\)"),
    "lengths bool": (
        lambda: R.lstm(P, X, lengths=jnp.ones((2, 5), bool)),
        r"lengths: expected integers, got bool; to choose single steps give mask=, bool \(\*batch, time\)",
    ),
    "mask dtype": (lambda: R.lstm(P, X, mask=jnp.ones((2, 5))), "mask: expected bool, got float32"),
    "mask shape": (
        lambda: R.lstm(P, X, mask=jnp.ones((5, 2), bool)),
        r"mask: expected \(\*batch, time\) as in x, shape \(2, 5\), got \(5, 2\)",
    ),
    "resets dtype": (lambda: R.lstm(P, X, resets=jnp.ones((2, 5))), "resets: expected bool, got float32"),
    "remat": (lambda: R.lstm(P, X, remat=0), "remat: expected a whole number of at least 1, got 0"),
    "truncate": (lambda: R.lstm(P, X, truncate=-2), "truncate: expected a whole number of at least 1, got -2"),
    "half a step": (lambda: R.rnn(RNN, X, remat=2.5), r"remat: expected a whole number of at least 1, got 2\.5"),
    "traced": (
        lambda: jax.jit(lambda n: R.rnn(RNN, X, truncate=n))(2),
        "truncate: .* got a traced value; make it static",
    ),
    "algorithm": (
        lambda: R.lstm(P, X, algorithm="cudnn2"),
        "algorithm: expected one of 'auto', 'scan', 'fused'.* 'cudnn2'",
    ),
    "fused peephole": (
        lambda: R.lstm(P._replace(peephole=jnp.ones((3, 4))), X, algorithm="fused"),
        "algorithm='fused' has no support for peephole; use 'scan', or 'auto'",
    ),
    "fused outputs of one's own": (
        lambda: R.recurrent(R.lstm_cell()._replace(output=lambda params, state: state.c), P, X, algorithm="fused"),
        r"algorithm='fused' has no support for an output other than the state's first array \(Cell.output\)",
    ),
    "fused projection and norm": (
        lambda: R.lstm(
            P._replace(
                w_h=jnp.ones((2, 16)),
                projection=jnp.ones((4, 2)),
                norm=R.LSTMNorm(jnp.ones(16), jnp.ones(16), jnp.ones(4), jnp.ones(4)),
            ),
            X,
            algorithm="fused",
        ),
        "has no support for projection and norm",
    ),
    "fused coupled": (
        lambda: R.lstm(R.LSTMParams(jnp.ones((3, 12)), jnp.ones((4, 12)), jnp.ones(12)), X, algorithm="fused"),
        "has no support for coupled gates",
    ),
    "fused activation": (
        lambda: R.lstm(P, X, activation=jnp.sin, algorithm="fused"),
        "has no support for activations other than tanh",
    ),
    "fused gate activation": (
        lambda: R.lstm(P, X, gate_activation=jnp.tanh, algorithm="fused"),
        "has no support for gate activations other than sigmoid",
    ),
    "fused rnn": (
        lambda: R.rnn(R.init_rnn(jax.random.key(0), 3, 4), X, activation=jnp.sin, algorithm="fused"),
        "has no support for activations other than tanh, relu, sigmoid",
    ),
    "gates": (lambda: R.lstm(P._replace(w_h=jnp.ones((4, 8))), X), r"params\.w_h: expected 4 \* hidden columns"),
    "w_x": (lambda: R.lstm(P._replace(w_x=jnp.ones((3, 12))), X), r"params\.w_x: expected shape \(3, 16\)"),
    "bias": (lambda: R.lstm(P._replace(b=jnp.ones(4)), X), r"params\.b: expected shape \(16,\).* got \(4,\)"),
    "stacked weights": (lambda: R.lstm(P._replace(w_x=jnp.ones((2, 3, 16))), X), r"params\.w_x: .* jax\.vmap"),
    "peephole": (lambda: R.lstm(P._replace(peephole=jnp.ones((2, 4))), X), r"params\.peephole: .* \(3, 4\)"),
    "projection": (lambda: R.lstm(P._replace(projection=jnp.ones(4)), X), r"params\.projection: expected"),
    "norm": (
        lambda: R.lstm(P._replace(norm=R.LSTMNorm(*(jnp.ones(16),) * 4)), X),
        r"params\.norm\.c: expected shape \(4,\), got \(16,\)",
    ),
    "step features": (lambda: R.lstm_step(P, STATE, jnp.ones((2, 7))), "3 features .* got 7 features"),
    "step batch": (lambda: R.lstm_step(P, STATE, jnp.ones((3, 3))), r"state\.h: .* got \(2, 4\)"),
    "sizes": (lambda: R.init_lstm(jax.random.key(0), 3, 0), "hidden: expected a whole number of at least 1, got 0"),
    "a fraction of a unit": (
        lambda: R.init_gru(jax.random.key(0), 4.0, 5),
        r"features: expected a whole number .* got 4\.0",
    ),
    "per gate": (
        lambda: R.per_gate(jax.nn.initializers.zeros, 4)(jax.random.key(0), (3, 10)),
        "multiple of the 4 gates",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_named(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_shapes_are_checked_while_tracing():
    with pytest.raises(ValueError, match="7 features"):
        jax.eval_shape(R.lstm, P, jax.ShapeDtypeStruct((2, 5, 7), jnp.float32))


def test_concrete_lengths_are_checked_inside_a_traced_function_too():
    with pytest.raises(ValueError, match=r"lengths: expected 0\.\.5"):
        jax.jit(lambda x: R.lstm(P, x, lengths=[5, 6]))(X)
