"""The algorithm "associative" against the scan and the formulas: values, every derivative, every option, its depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as R
from jaxnn import testing
from tests import oracles_recurrent as oracle

from .common import CASES, assert_close, assert_same, float64, random_state, random_x, summed, with_gradients

LAYERS = ("mingru", "mingru-log-space", "minlstm", "minlstm-log-space", "lru")
TIME = 6
_rng = np.random.default_rng(5)
LENGTHS = np.array([6, 4, 0], np.int32)
RESETS, MASK = _rng.random((3, TIME)) < 0.3, _rng.random((3, TIME)) < 0.7

OPTIONS = {
    "plain, backward": {"reverse": True},
    "lengths, resets, truncated": {"lengths": LENGTHS, "resets": RESETS, "truncate": 4},
    "mask, truncated, backward": {"mask": MASK, "truncate": 2, "reverse": True},
    "everything, backward": {"lengths": LENGTHS, "mask": MASK, "resets": RESETS, "truncate": 2, "reverse": True},
}


def setting(name, batch=(3,), time=TIME, features=3, hidden=4, dtype=jnp.float32):
    params = CASES[name].params(features, hidden, dtype=dtype)
    x, state = random_x(*batch, time, features, dtype=dtype), random_state(params, batch, dtype=dtype)
    return params, x, state


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("lru", options) for options in OPTIONS),
        *((n, "everything, backward") for n in ("mingru-log-space", "minlstm")),
    ],
)
def test_values_and_gradients_are_those_of_the_scan(name, options):
    case, args = CASES[name], setting(name)

    def of(algorithm):
        def call(params, x, state):
            return case.layer(params, x, state, algorithm=algorithm, **case.options, **OPTIONS[options])

        return jax.jit(with_gradients(call))(*args)

    assert_close(of("associative"), of("scan"), 2e-5, 2e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_in_float64_it_agrees_with_the_formula(name):
    case = CASES[name]
    with jax.enable_x64(True):
        args = setting(name, dtype=jnp.float64)
        for reverse in (False, True):
            y, final = jax.jit(
                lambda *args, reverse=reverse: case.layer(
                    *args, lengths=LENGTHS, resets=RESETS, reverse=reverse, algorithm="associative", **case.options
                )
            )(*args)
            params, x, state = map(float64, args)
            want_y, want = oracle.batch(
                case.oracle,
                params,
                x,
                tuple(state),
                lengths=LENGTHS,
                resets=RESETS,
                reverse=reverse,
                **case.oracle_options,
            )
            assert_close(y, want_y, 1e-12, 1e-12)
            assert_close(tuple(final), want, 1e-12, 1e-12)


def test_first_and_second_derivatives_in_both_modes():
    with jax.enable_x64(True):
        args = setting("lru", (2,), 3, 2, 2, jnp.float64)

        def run(params, x, state):
            options = {"lengths": jnp.array([3, 2]), "resets": jnp.array([[False, True, False], [False] * 3])}
            return R.lru(params, x, state, algorithm="associative", **options)

        testing.assert_gradients(run, args, order=2)


def test_truncation_takes_no_second_scan():
    params, x, state = setting("minlstm", time=16)

    def products(truncate):
        def call(x):
            return R.minlstm(params, x, state, truncate=truncate, algorithm="associative")

        return str(jax.make_jaxpr(call)(x)).count(" mul ")

    assert products(2) == products(None)


def test_second_derivatives_of_a_truncated_sequence_are_those_of_the_scan():
    args = setting("minlstm", (), 3, 2, 2)

    @jax.jit
    def both(*args):
        def of(algorithm):
            def loss(x):
                return summed(R.minlstm(args[0], x, args[2], truncate=2, algorithm=algorithm))

            return jax.hessian(loss)(args[1])

        return of("associative"), of("scan")

    assert_close(*both(*args))


# A cell whose state is an array alone, with a constant factor, no `project` and a learned start.


def learned_start(params, batch, dtype):
    return jnp.broadcast_to(params["start"], (*batch, *params["start"].shape)).astype(dtype)


def decayed(params, state, x):
    return jnp.broadcast_to(params["decay"], x.shape) * state + x


DECAY = R.Cell(learned_start, decayed, affine=lambda params, x: (params["decay"], x))


def test_a_cell_of_ones_own_with_a_constant_factor_and_a_learned_start():
    params = {"decay": jnp.array([0.5, -0.9, 1.0]), "start": jnp.array([1.0, 2.0, 3.0])}
    x = random_x(3, TIME, 3)

    @jax.jit
    def both(params, x):
        def of(algorithm):
            def loss(params, x):
                values = R.recurrent(DECAY, params, x, resets=RESETS, mask=MASK, algorithm=algorithm)
                return summed(values), values

            return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

        return of("associative"), of("scan")

    got, expected = both(params, x)
    assert np.all(got[1][0]["start"] != 0)
    assert_close(got, expected)


@pytest.mark.optimized
def test_nan_in_one_document_does_not_reach_the_next_nor_its_gradients():
    params, x, state = setting("mingru", (), time=4)
    resets = jnp.arange(4) == 2

    @jax.jit
    def late(params, x, state):
        def loss(params, x):
            y, _ = R.mingru(params, x, state, resets=resets, algorithm="associative")
            return jnp.sum(y[2:] ** 2), y[2:]

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

    (_, clean), (_, d_clean) = late(params, x, state)
    (_, y), (_, d_x) = late(params, jnp.asarray(x).at[1].set(jnp.nan), jax.tree.map(lambda s: s * jnp.nan, state))
    assert_same((y, d_x[2:]), (clean, d_clean[2:]))


@pytest.mark.optimized
def test_what_is_where_steps_do_not_count_has_no_effect():
    params, x, state = setting("lru", time=3)
    lengths, mask = np.array([3, 2, 0], np.int32), MASK[:, 3:]
    inside = jnp.asarray(mask & (np.arange(3) < lengths[:, None]))[..., None]

    @jax.jit
    def run(x):
        def loss(params, x, state):
            values = R.lru(params, x, state, mask=mask, lengths=lengths, truncate=2, algorithm="associative")
            return summed(values), values

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, x, state)

    clean, poisoned = run(jnp.where(inside, x, 0)), run(jnp.where(inside, x, jnp.nan))
    assert_same(poisoned, clean)
    assert not np.any(np.where(inside, 0, poisoned[1][1]))


def test_vmap_over_parameters_and_sequences():
    several = [CASES["lru"].params(seed=s) for s in range(3)]
    _, x, state = setting("lru")
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *several)

    def run(params, x, state, n):
        return R.lru(params, x, state, lengths=n, algorithm="associative")

    mapped = jax.jit(jax.vmap(run))(stacked, x, state, LENGTHS)
    for n, params in enumerate(several):
        alone = R.lru(params, x[n], jax.tree.map(lambda a, n=n: a[n], state), lengths=LENGTHS[n])
        assert_close(jax.tree.map(lambda a, n=n: a[n], mapped), alone)


@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("reverse", [False, True])
def test_no_step_and_one(time, reverse):
    params, x, state = setting("lru", time=time)
    options = {"resets": RESETS[:, :time], "truncate": 1, "reverse": reverse}
    y, final = R.lru(params, x, state, algorithm="associative", **options)
    assert_close((y, final), R.lru(params, x, state, algorithm="scan", **options))
    assert y.shape == (3, time, 5)


@pytest.mark.parametrize("algorithm", ["associative", "scan"])
def test_in_half_precision_thousands_of_small_terms_add_up(algorithm):
    """A state in bfloat16 would stick at 0.56, where a step adds less than half of what it has for a last digit."""
    params = R.MinGRUParams(jnp.zeros((1, 2), jnp.bfloat16), jnp.array([-6, 1], jnp.bfloat16))
    y, _ = R.mingru(params, jnp.zeros((2000, 1), jnp.bfloat16), algorithm=algorithm)
    assert y.dtype == jnp.bfloat16
    z = 1 / (1 + np.exp(6.0))
    np.testing.assert_allclose(float(y[-1, 0]), 1 - (1 - z) ** 2000, rtol=0.01)


# How many products lie one after another in a program.


def depth(jaxpr, depths):
    """The longest chains of products that end in the results, from those that end in the arguments; no loops."""
    at = dict(zip(jaxpr.invars, depths, strict=True))
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        assert name not in ("while", "scan"), name
        entering = [0 if hasattr(v, "val") else at.get(v, 0) for v in eqn.invars]
        inner = [p for p in eqn.params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
        if inner:
            (program,) = inner[:1]
            after = depth(getattr(program, "jaxpr", program), entering)
        else:
            after = [max(entering, default=0) + (name == "mul")] * len(eqn.outvars)
        at.update(zip(eqn.outvars, after, strict=True))
    return [0 if hasattr(v, "val") else at.get(v, 0) for v in jaxpr.outvars]


def test_sixteen_thousand_steps_take_at_most_thirty_one_after_another():
    x = jax.ShapeDtypeStruct((16_384, 2), jnp.float32)
    params = {"decay": jnp.array([0.5, 0.9]), "start": jnp.zeros(2)}

    def run(x):
        return R.recurrent(DECAY, params, x, time_major=True, algorithm="associative")

    closed = jax.make_jaxpr(run)(x)
    assert 14 <= max(depth(closed.jaxpr, [0])) <= 30
    # Going back another as many, and nothing else than products of the two.
    closed = jax.make_jaxpr(lambda x: jax.grad(lambda x: jnp.sum(run(x)[0] ** 2))(x))(x)
    assert max(depth(closed.jaxpr, [0])) <= 2 * 30 + 3


REFUSED = {
    "gru": (
        lambda: R.gru(R.init_gru(jax.random.key(0), 3, 4), jnp.ones((2, 5, 3)), algorithm="associative"),
        r"algorithm='associative' has no affine form of this cell \(Cell.affine\); use 'scan', or 'auto'",
    ),
    "remat": (
        lambda: R.lru(R.init_lru(jax.random.key(0), 3, 4), jnp.ones((2, 5, 3)), remat=2, algorithm="associative"),
        "algorithm='associative' has no support for remat: it computes all states at once",
    ),
    "symbolic": (
        lambda: jax.eval_shape(
            lambda x: R.lru(R.init_lru(jax.random.key(0), 3, 4), x, algorithm="associative"),
            jax.ShapeDtypeStruct((2, *jax.export.symbolic_shape("t"), 3), jnp.float32),
        ),
        "algorithm='associative' has no support for a symbolic number of steps",
    ),
    "other trees": (
        lambda: R.recurrent(
            DECAY._replace(affine=lambda params, x: (params, x)),
            {"decay": jnp.ones(3), "start": jnp.ones(3)},
            jnp.ones((2, 5, 3)),
            algorithm="associative",
        ),
        r"cell\.affine: expected \(a, b\), each a tree like the state",
    ),
    "other shapes": (
        lambda: R.recurrent(
            DECAY._replace(affine=lambda params, x: (jnp.ones(2), x)),
            {"decay": jnp.ones(3), "start": jnp.ones(3)},
            jnp.ones((2, 5, 3)),
            algorithm="associative",
        ),
        r"cell\.affine: expected arrays that broadcast to the state, with time first \(5, 2, 3\), got shape \(2,\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_serve_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()
