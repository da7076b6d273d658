"""minGRU, minLSTM and the linear recurrent unit: what their papers say beyond the formula of a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as R
from jaxnn import testing

from .common import CASES, assert_close, float64, random_state, random_x


def softplus(a):
    return np.logaddexp(0, a)


def in_log_space(log_a, log_b):
    """The states of `h = a h + b` from `h = 0`, by logarithms alone, as the paper computes them."""
    of_a = np.cumsum(log_a, axis=0)
    return np.exp(of_a + np.logaddexp.accumulate(log_b - of_a, axis=0))


def log_positive(a):
    return np.where(a >= 0, np.log(np.maximum(a, 0) + 0.5), -softplus(-a))


@pytest.mark.parametrize("algorithm", ["scan", "associative"])
@pytest.mark.parametrize("layer", ["mingru", "minlstm"])
def test_the_log_space_form_agrees_with_the_papers_computation_in_logarithms(layer, algorithm):
    with jax.enable_x64(True):
        case = CASES[layer]
        params, x = case.params(dtype=jnp.float64), random_x(9, 3, dtype=jnp.float64)
        y, _ = case.layer(params, x, log_space=True, algorithm=algorithm)
        p, x = float64(params), float64(x)
        pre = np.split(x @ p.w_x + p.b, 2 if layer == "mingru" else 3, axis=1)
        if layer == "mingru":
            log_a, log_i = -softplus(pre[0]), -softplus(-pre[0])
        else:
            difference = softplus(-pre[1]) - softplus(-pre[0])
            log_a, log_i = -softplus(difference), -softplus(-difference)
        want = in_log_space(log_a, log_i + log_positive(pre[-1]))
        assert_close(y, want, 1e-12, 1e-12)
        assert np.all(want > 0)


def test_gates_that_are_nearly_closed_or_open_stay_exact():
    """Of two sigmoids that are zero in float32 the quotient is 0 / 0."""
    params = R.MinLSTMParams(jnp.zeros((1, 3)), jnp.array([-200.0, -201.0, 3.0]))
    state = R.MinLSTMState(jnp.array([1.0]))

    def h(params):
        return R.minlstm_step(params, state, jnp.ones(1)).h[0]

    value, gradient = jax.jit(jax.value_and_grad(h))(params)
    i = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(value, (1 - i) + i * 3, rtol=1e-5)
    np.testing.assert_allclose(gradient.b, [2 * i * (1 - i), -2 * i * (1 - i), i], rtol=1e-4)
    # A minGRU's gate open but for what float32 has below 1: 1 - z keeps its digits.
    open_gate = R.MinGRUParams(jnp.zeros((1, 2)), jnp.array([30.0, 0.0]))
    kept = R.mingru_step(open_gate, R.MinGRUState(jnp.array([1.0])), jnp.ones(1)).h[0]
    np.testing.assert_allclose(kept, np.exp(-30.0) / (1 + np.exp(-30.0)), rtol=1e-5)


@pytest.mark.parametrize("name", ["mingru", "mingru-log-space", "minlstm", "lru", "slstm-heads-exp"])
def test_the_parts_of_the_cell_agree_with_its_step(name):
    case = CASES[name]
    cell, params = getattr(R, f"{name.split('-')[0]}_cell")(**case.options), case.params()
    checks = [part for part in ("project", "affine", "jacobian") if getattr(cell, part) is not None]
    testing.assert_cell(cell, params, random_x(2, 4, 3), checks=checks, state=random_state(params, (2,)))


def test_a_loop_of_stack_steps_of_a_cell_gives_what_the_stack_gives():
    case, cell = CASES["lru"], R.lru_cell()
    first = case.params(3, 4)
    params = [first, case.params(first.output, 2, seed=1)]
    x = random_x(2, 4, 3)
    y, finals = jax.jit(lambda params, x: R.stack(cell, params, x))(params, x)
    states = tuple(p.zero_state((2,), x.dtype) for p in params)
    step = jax.jit(lambda params, states, x: R.stack_step(cell, params, states, x))
    for t in range(4):
        states = step(params, states, x[:, t])
        assert_close(cell.output(params[-1], states[-1]), y[:, t], 1e-5, 1e-5)
    assert_close(states, finals, 1e-5, 1e-5)


def test_eigenvalues_start_on_the_ring_uniformly_by_area():
    params = R.init_lru(jax.random.key(0), 3, 4000, output=2, r_min=0.8, r_max=0.99, max_phase=0.5)
    modulus, phase = np.exp(-np.exp(params.nu_log)), np.exp(params.theta_log)
    assert modulus.min() >= 0.8 - 1e-5
    assert modulus.max() <= 0.99 + 1e-5
    assert 0 < phase.min() < 0.01
    assert 0.49 < phase.max() <= 0.5
    square = (modulus**2 - 0.8**2) / (0.99**2 - 0.8**2)
    for uniform in (square, phase / 0.5):
        np.testing.assert_allclose(np.histogram(uniform, 8, (0, 1))[0] / 4000, 1 / 8, atol=0.02)
    np.testing.assert_allclose(np.exp(params.gamma_log) ** 2, 1 - modulus**2, rtol=1e-4)
    np.testing.assert_allclose(params.b.std(), 1 / np.sqrt(6), rtol=0.05)
    np.testing.assert_allclose(params.c.std(), 1 / np.sqrt(4000), rtol=0.05)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("r_min", [0.0, 0.9999])
def test_every_drawn_parameter_is_finite_to_the_ends_of_the_ring(dtype, r_min):
    params = R.init_lru(jax.random.key(0), 3, 20_000, output=1, r_min=r_min, r_max=1.0, dtype=dtype)
    assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert all(np.isfinite(a.astype(jnp.float32)).all() for a in jax.tree.leaves(params))


def test_the_normalisation_keeps_the_variance_of_white_inputs():
    params = R.init_lru(jax.random.key(0), 8, 50, r_min=0.8, r_max=0.95)
    x = random_x(32, 150, 8)
    h = jax.jit(lambda x: R.lru(params, x)[1].h)(x)
    entering = R.lru_cell().project(params._replace(gamma_log=jnp.zeros(50)), x[:, 0])
    ratio = np.mean(np.abs(h) ** 2) / np.mean(np.abs(entering.h) ** 2)
    assert 0.7 < ratio < 1.4


def test_gates_start_alike_and_biases_at_zero():
    for init, gates in ((R.init_mingru, 2), (R.init_minlstm, 3)):
        params = init(jax.random.key(0), 3, 8, dtype=jnp.bfloat16)
        assert params.w_x.dtype == params.b.dtype == jnp.bfloat16
        bound = np.sqrt(6 / (3 + 8))
        for w in jnp.split(params.w_x.astype(jnp.float32), gates, axis=1):
            assert 0.7 * bound < np.abs(w).max() <= bound * 1.01
        assert not params.b.any()


KEY, X = jax.random.key(0), jnp.ones((2, 5, 3))
GRU, LSTM, LRU = R.init_mingru(KEY, 3, 4), R.init_minlstm(KEY, 3, 4), R.init_lru(KEY, 3, 4, output=2)
CALLS = {
    "features": (
        lambda: R.mingru(GRU, jnp.ones((2, 5, 7))),
        r"3 features of params\.w_x \(3, 8\), got 7",
    ),
    "features of B": (
        lambda: R.lru(LRU, jnp.ones((2, 5, 7))),
        r"3 features of params\.b \(3, 8\), got 7",
    ),
    "another layer": (lambda: R.minlstm(GRU, X), "params: expected MinLSTMParams, got MinGRUParams"),
    "columns": (
        lambda: R.minlstm(LSTM._replace(w_x=jnp.ones((3, 11))), X),
        r"params\.w_x: expected shape \(3, 9\) .*got \(3, 11\)",
    ),
    "bias": (lambda: R.mingru(GRU._replace(b=jnp.ones(4)), X), r"params\.b: expected shape \(8,\) to fit params\.w_x"),
    "no units": (lambda: R.mingru(GRU._replace(w_x=GRU.w_x[:, :0], b=GRU.b[:0]), X), "at least 1 unit"),
    "C": (lambda: R.lru(LRU._replace(d=jnp.ones((3, 4))), X), r"params\.d: expected shape \(3, 2\) to fit params\.c"),
    "complex C": (lambda: R.lru(LRU._replace(c=LRU.c.astype(jnp.complex64)), X), r"params\.c: expected real numbers"),
    "stacked": (lambda: R.lru(LRU._replace(b=jnp.ones((2, 3, 8))), X), r"params\.b: .* jax\.vmap"),
    "real state": (
        lambda: R.lru(LRU, X, R.LRUState(jnp.ones((2, 4)), X[:, 0])),
        r"state\.h: expected complex64 for x of float32, got float32",
    ),
    "half state": (
        lambda: R.mingru(GRU, X, R.MinGRUState(jnp.ones((2, 4), jnp.bfloat16))),
        r"state\.h: expected float32 for x of float32, got bfloat16",
    ),
    "sizes": (lambda: R.init_lru(KEY, 3, 4, output=0), "output: expected a whole number of at least 1, got 0"),
    "ring": (lambda: R.init_lru(KEY, 3, 4, r_min=0.9, r_max=0.8), "r_min, r_max: expected 0 <= r_min < r_max <= 1"),
    "phase": (lambda: R.init_lru(KEY, 3, 4, max_phase=0.0), "max_phase: expected an angle"),
}


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_named(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()
