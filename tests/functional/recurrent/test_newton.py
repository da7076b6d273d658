"""Newton's method over a whole sequence: against NumPy in float64, against "scan", and what it says of itself."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import functional as F
from jaxnn import testing
from jaxnn.kernels.accumulate import accumulator
from jaxnn.kernels.recurrence import rows
from jaxnn.testing.floating import computing_in
from tests.functional.recurrent.common import with_gradients
from tests.oracles_recurrent import batch, sigmoid

TIME, FEATURES, HIDDEN = 7, 3, 4

# The cells. `a` is as in the NumPy formula below each.


def _zero(size, params, batch, dtype):
    return jnp.zeros((*batch, size), dtype)


def _zero_pair(params, batch, dtype):
    return {"h": jnp.zeros((*batch, HIDDEN), dtype), "c": jnp.zeros((*batch, HIDDEN), accumulator(dtype))}


def _gates(p, x, h, parts):
    of_x = x @ p["w"]
    return jnp.split(of_x + rows(p["b"], of_x) + jnp.concatenate([h] * parts, -1) * rows(p["u"], of_x), parts, -1)


def _tanh_step(p, h, x):
    return jnp.tanh(_gates(p, x, h, 1)[0])


def _gru_project(p, xs):
    of_x = xs @ p["w"]
    return of_x + rows(p["b"], of_x)


def _gru_advance(p, h, g):
    (r, z, n), (u_r, u_z, u_n) = jnp.split(g, 3, -1), jnp.split(p["u"], 3)
    r = jax.nn.sigmoid(r + rows(u_r, h) * h)
    z = jax.nn.sigmoid(z + rows(u_z, h) * h)
    n = jnp.tanh(n + r * (rows(u_n, h) * h))
    return (1 - z) * n + z * h


def _gru_step(p, h, x):
    return _gru_advance(p, h, _gru_project(p, x))


def _lstm_step(p, s, x):
    i, f, g, o = _gates(p, x, s["h"], 4)
    wide = s["c"].dtype
    c = jax.nn.sigmoid(f).astype(wide) * s["c"] + (jax.nn.sigmoid(i) * jnp.tanh(g)).astype(wide)
    return {"h": jax.nn.sigmoid(o) * jnp.tanh(c).astype(x.dtype), "c": c}


def _lstm_output(p, s):
    return s["h"]


def _pairs_step(p, h, x):
    """Neighbours act on each other."""
    swapped = jnp.flip(h.reshape(*h.shape[:-1], -1, 2), -1).reshape(h.shape)
    return jnp.tanh(x @ p["w"] + rows(p["b"], h) + h * rows(p["u"], h) + swapped * rows(p["v"], h))


def np_tanh(p, state, x):
    return [np.tanh(x @ p["w"] + p["b"] + p["u"] * state[0])]


def np_gru(p, state, x):
    (h,) = state
    (r, z, n), (u_r, u_z, u_n) = np.split(x @ p["w"] + p["b"], 3), np.split(p["u"], 3)
    r, z = sigmoid(r + u_r * h), sigmoid(z + u_z * h)
    return [(1 - z) * np.tanh(n + r * (u_n * h)) + z * h]


def np_lstm(p, state, x):
    c, h = state  # as JAX sorts the keys
    i, f, g, o = np.split(x @ p["w"] + p["b"], 4) + np.split(p["u"], 4) * h
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return [c, sigmoid(o) * np.tanh(c)]


def np_pairs(p, state, x):
    (h,) = state
    return [np.tanh(x @ p["w"] + p["b"] + p["u"] * h + p["v"] * h.reshape(-1, 2)[:, ::-1].reshape(-1))]


class Case(NamedTuple):
    cell: Any
    gates: int
    oracle: Any
    output: int = 0


_one = partial(_zero, HIDDEN)
CELLS = {
    "tanh": Case(F.Cell(_one, _tanh_step, jacobian="diagonal"), 1, np_tanh),
    "gru": Case(F.Cell(_one, _gru_step, project=_gru_project, advance=_gru_advance, jacobian="diagonal"), 3, np_gru),
    "lstm": Case(F.Cell(_zero_pair, _lstm_step, _lstm_output, jacobian=F.Blocks(2)), 4, np_lstm, 1),
    "pairs": Case(F.Cell(_one, _pairs_step, jacobian=F.Blocks(2)), 1, np_pairs),
}


def setting(name, batch=(3,), time=TIME, dtype=np.float32, scale=1.0, seed=0):
    case, rng = CELLS[name], np.random.default_rng(seed)
    width = case.gates * HIDDEN
    params = {"w": rng.normal(size=(FEATURES, width)), "b": rng.normal(size=width), "u": rng.normal(size=width) * scale}
    if name == "pairs":
        params["v"] = 0.5 * rng.normal(size=width)
    params = jax.tree.map(lambda a: jnp.asarray(0.7 * a, dtype), params)
    x = jnp.asarray(rng.normal(size=(*batch, time, FEATURES)), dtype)
    state = jax.tree.map(
        lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), case.cell.zero_state(params, batch, dtype)
    )
    return case, params, x, state


LENGTHS = np.array([TIME, 4, 0])
MASK = np.random.default_rng(7).random((3, TIME)) < 0.7
RESETS = np.random.default_rng(8).random((3, TIME)) < 0.3
OPTIONS = {
    "plain": {},
    "lengths and resets": {"lengths": LENGTHS, "resets": RESETS},
    "all, going back": {"lengths": LENGTHS, "mask": MASK, "resets": RESETS, "reverse": True},
    "truncated": {"truncate": 4, "mask": MASK},
    "truncated in blocks, going back": {"truncate": 3, "remat": 4, "reverse": True, "resets": RESETS},
}


def by_steps(case, p, x, state, truncate=None, remat=None, **options):
    """In NumPy float64; truncation and memory change no value."""
    p, x, leaves = jax.tree.map(lambda a: np.asarray(a, np.float64), (p, x, jax.tree.leaves(state)))
    y, final = batch(case.oracle, p, x, tuple(leaves), output=lambda step, p, state: state[case.output], **options)
    return y, list(final)


def loss_of(cell, **options):
    return jax.jit(with_gradients(partial(F.recurrent, cell, **options)))


def assert_near(got, expected, tolerance):
    """Within `tolerance` of the largest element of each array."""

    def one(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.max(np.abs(b), initial=0)))

    jax.tree.map(one, got, expected)


RUNS = [
    *(("lstm", options, np.float64, 1e-12) for options in OPTIONS),
    ("gru", "plain", np.float64, 1e-12),
    *((name, "all, going back", np.float64, 1e-12) for name in ("tanh", "gru", "pairs")),
    *((name, "lengths and resets", np.float32, 3e-5) for name in CELLS),
]


@pytest.mark.parametrize(("name", "options", "dtype", "tolerance"), RUNS)
def test_values_and_all_gradients(name, options, dtype, tolerance):
    options = OPTIONS[options]
    with computing_in(dtype):
        case, params, x, state = setting(name, dtype=dtype)
        (_, (y, final)), gradients = loss_of(case.cell, algorithm="newton", **options)(params, x, state)
        by_scan = loss_of(case.cell, algorithm="scan", **options)(params, x, state)
    expected, last = by_steps(case, params, x, state, **options)
    assert_near(y, expected, tolerance)
    assert_near(jax.tree.leaves(final), last, tolerance)
    assert_near(gradients, by_scan[1], tolerance)


@pytest.mark.parametrize(("name", "order"), [("gru", 2), ("lstm", 1)])
def test_derivatives_of_both_modes_are_those_of_finite_differences(name, order):
    with computing_in(np.float64):
        case, params, x, state = setting(name, (2,), 4, np.float64)

    def run(params, x, state):
        return F.recurrent(case.cell, params, x, state, lengths=jnp.array([4, 2]), algorithm="newton")

    testing.assert_gradients(run, jax.tree.map(np.asarray, (params, x, state)), order=order)


SECOND = {
    "blocks": {"remat": 2},
    "blocks of a part of the Jacobian": {"remat": 2, "algorithm": "quasi-newton"},
    "truncated blocks, going back": {"remat": 2, "truncate": 4, "reverse": True, "lengths": np.array([5, 3])},
    "a user's scan": {},
    "a user's scan under vmap": {"time_major": True},
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_inside_a_loop(name):
    """JAX before 0.12 drops rules of `jax.custom_jvp` there."""
    with computing_in(np.float64):
        case, params, x, state = setting("gru", (2,), 5, np.float64)

    def second(**options):
        def layer(params, x, state):
            return F.recurrent(case.cell, params, x, state, **options)

        if "under vmap" in name:
            layer = jax.vmap(layer, (None, 0, 0), axis_name="batch")

        def loss(params, x, state):
            if "remat" in options:
                return jnp.sum(jnp.sin(layer(params, x, state)[0]))

            def turn(xs, _):
                return layer(params, xs, state)[0][..., :FEATURES], None

            return jnp.sum(jnp.sin(jax.lax.scan(turn, x, None, length=2)[0]))

        def gradient(arrays):
            return jax.grad(loss, (0, 1, 2))(*arrays)

        def total(arrays):
            return sum(jnp.sum(a) for a in jax.tree.leaves(gradient(arrays)))

        def of_state(state):
            return gradient((params, x, state))

        return jax.jit(lambda arrays: (jax.grad(total)(arrays), jax.jacfwd(of_state)(arrays[2])))((params, x, state))

    options = {"algorithm": "newton", **SECOND[name]}
    with computing_in(np.float64):
        assert_near(second(**options), second(**{**options, "algorithm": "scan"}), 1e-12)


@pytest.mark.parametrize(("name", "dtype"), [("gru", jnp.bfloat16), ("lstm", jnp.bfloat16), ("tanh", jnp.float16)])
def test_half_precision(name, dtype):
    case, params, x, state = setting(name, dtype=dtype)
    got, expected = (loss_of(case.cell, algorithm=a, lengths=LENGTHS)(params, x, state) for a in ("newton", "scan"))
    assert jax.tree.map(lambda a: a.dtype, got) == jax.tree.map(lambda a: a.dtype, expected)
    assert_near(got[0][1], expected[0][1], 8 * float(jnp.finfo(dtype).eps))
    assert_near(got[1], expected[1], 16 * float(jnp.finfo(dtype).eps))


def test_gradients_of_half_precision_are_summed_over_time_in_float32():
    """Where bfloat16 adds them up, hundreds of ones stick at 256."""
    case, params, x, _ = setting("tanh", (1,), 600)
    params = {"w": 0 * params["w"], "b": 0 * params["b"], "u": 0 * params["u"]}

    def loss(params, x):
        return jnp.sum(F.recurrent(case.cell, params, x, algorithm="newton")[0].astype(jnp.float32))

    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, x))
    assert jax.jit(jax.grad(loss))(*half)["b"].tolist() == [600.0] * HIDDEN


def test_iterations_are_few_and_do_not_grow_with_time():
    case, params, x, state = setting("gru", (2,), 512)
    counts = {}
    for time in (32, 512):
        _, _, info = F.recurrent_with_info(case.cell, params, x[:, :time], state)
        assert info.converged.all()
        assert info.residual.shape == (2,)
        assert float(info.residual.max()) < 1e-5
        counts[time] = int(info.iterations)
    assert counts[512] <= counts[32] + 2 <= 9, counts


def _line_step(p, h, x):
    return rows(p, x) * h + x


def test_a_linear_cell_takes_one_iteration_and_one_that_sees_no_change():
    cell = F.Cell(_one, _line_step, jacobian="diagonal")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(100, HIDDEN)), jnp.float32)
    _, _, info = F.recurrent_with_info(cell, jnp.full(HIDDEN, 0.9), x)
    assert (int(info.iterations), info.converged.shape) == (2, ())


def test_without_convergence_the_scan_takes_over_values_and_gradients():
    case, params, x, state = setting("tanh", time=40, scale=6.0)
    few = F.Newton(iterations=2)
    y, final, info = F.recurrent_with_info(case.cell, params, x, state, algorithm=few)
    assert int(info.iterations) == 2
    assert not info.converged.any()
    assert (info.residual > 1e-3).all()
    got, expected = (loss_of(case.cell, algorithm=a)(params, x, state) for a in (few, "scan"))
    assert_near((y, final), expected[0][1], 1e-6)
    assert_near(got[0], expected[0], 1e-6)
    assert_near(got[1], expected[1], 1e-5)


def test_without_convergence_only_those_sequences_are_nan_on_request():
    case, params, x, _ = setting("tanh", (2,), 40)
    params["b"] = 0 * params["b"]
    x = x.at[1].set(0)  # solved by the guess
    y, final, info = F.recurrent_with_info(case.cell, params, x, algorithm=F.Newton(iterations=1, otherwise="nan"))
    assert info.converged.tolist() == [False, True]
    assert np.isnan(y[0]).all()
    assert np.isnan(final[0]).all()
    assert not y[1].any()


@pytest.mark.parametrize("otherwise", ["scan", "nan"])
def test_nan_in_one_sequence_is_nan_there_alone(otherwise):
    case, params, x, _ = setting("gru", (2,))
    x = x.at[0, 3].set(jnp.nan)
    y, _ = F.recurrent(case.cell, params, x, algorithm=F.Newton(otherwise=otherwise))
    expected, _ = F.recurrent(case.cell, params, x, algorithm="scan")
    assert_near(y[1], expected[1], 1e-6)
    assert np.isnan(y[0, 3:]).all()


@pytest.mark.parametrize("name", ["gru", "pairs"])
def test_what_is_in_padding_reaches_nothing(name):
    case, params, x, state = setting(name)
    run = loss_of(case.cell, algorithm="newton", lengths=LENGTHS)
    inside = (np.arange(TIME) < LENGTHS[:, None])[..., None]
    clean, poisoned = (run(params, jnp.where(inside, x, bad), state) for bad in (0.0, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, poisoned, clean)


def test_no_program_loops_over_time_but_the_scan_of_otherwise():
    case, params, x, state = setting("lstm", (), 64)

    def loops(otherwise):
        run = loss_of(case.cell, algorithm=F.Newton(otherwise=otherwise))
        return str(jax.make_jaxpr(run)(params, x, state)).count("scan[")

    assert loops("nan") == 0
    assert loops("scan") == 1


def test_batch_axes_time_major_vmap_and_no_steps():
    case, params, x, state = setting("lstm", (2, 3))
    run = jax.jit(partial(F.recurrent, case.cell, algorithm="newton"), static_argnames="time_major")
    y, final = run(params, x, state)
    one_y, one_final = run(params, x[1, 2], jax.tree.map(lambda a: a[1, 2], state))
    assert_near((y[1, 2], jax.tree.map(lambda a: a[1, 2], final)), (one_y, one_final), 1e-5)
    y_t, final_t = run(params, jnp.moveaxis(x, -2, 0), state, time_major=True)
    assert_near((jnp.moveaxis(y_t, 0, -2), final_t), (y, final), 1e-6)
    assert_near(jax.vmap(run, in_axes=(None, 0, 0))(params, x, state), (y, final), 1e-5)
    y, same = run(params, x[..., :0, :], state)
    assert y.shape == (2, 3, 0, HIDDEN)
    assert_near(same, state, 0)
    y, _, info = F.recurrent_with_info(case.cell, params, x[:0])
    assert (y.shape, info.residual.shape, int(info.iterations)) == ((0, 3, TIME, HIDDEN), (0, 3), 0)
    for time_major in (False, True):
        xs = jnp.moveaxis(x, -2, 0) if time_major else x
        _, _, info = F.recurrent_with_info(case.cell, params, xs, state, time_major=time_major, remat=4)
        assert info.converged.shape == (2, 3)


@pytest.mark.optimized
def test_equal_settings_compile_once():
    case, params, x, state = setting("tanh", (5,), 6)
    with testing.record_compilations() as compiled:
        for _ in range(3):
            F.recurrent(case.cell, params, x, state, algorithm=F.Newton(iterations=7))
    assert len([name for name in compiled if "_compute" in name]) == 1


@pytest.mark.parametrize("layer", ["gru", "lstm"])
def test_quasi_newton_serves_cells_of_dense_weights(layer):
    cell, init = (F.gru_cell(), F.init_gru) if layer == "gru" else (F.lstm_cell(), F.init_lstm)
    params = init(jax.random.key(0), FEATURES, HIDDEN)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 24, FEATURES)), jnp.float32)
    part = "diagonal" if layer == "gru" else F.Blocks(2)
    method = F.Newton(jacobian=part, iterations=24)
    state = cell.zero_state(params, (2,), x.dtype)
    _, _, info = F.recurrent_with_info(cell, params, x, state, algorithm=method)
    assert info.converged.all()
    got, expected = (loss_of(cell, algorithm=a, lengths=np.array([24, 9]))(params, x, state) for a in (method, "scan"))
    assert_near(got, expected, 2e-5)


def test_front_doors_and_stacks_take_it_by_name():
    params = F.init_gru(jax.random.key(0), FEATURES, HIDDEN)
    x = jnp.ones((2, 5, FEATURES))
    expected = F.gru(params, x)
    assert_near(F.gru(params, x, algorithm="quasi-newton"), expected, 1e-5)
    lstm = F.init_lstm(jax.random.key(0), FEATURES, HIDDEN)
    assert_near(F.lstm(lstm, x, algorithm="quasi-newton"), F.lstm(lstm, x), 1e-5)
    y, (final,) = F.stack(F.gru, [params], x, algorithm=F.Newton(jacobian="diagonal"))
    assert_near((y, final), expected, 1e-5)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_inside_shard_map_each_device_iterates_by_itself():
    case, params, x, state = setting("lstm", (8,))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def local(params, x, state):
        out, pull = jax.vjp(partial(F.recurrent, case.cell, params, algorithm="newton"), x, state)
        return out, pull(out)

    spread = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P("data")))
    assert_near(spread(params, x, state), jax.jit(local)(params, x, state), 1e-5)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("name", ["lstm", "pairs", "quasi-newton"])
def test_over_an_explicit_mesh(name):
    case, params, x, state = setting(name if name in CELLS else "gru", (8,))
    cell, algorithm = case.cell, "newton"
    if name == "quasi-newton":
        cell, algorithm = cell._replace(jacobian=None), name
    run = loss_of(cell, algorithm=algorithm, lengths=np.arange(8) % TIME, resets=np.tile(RESETS[0], (8, 1)))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    got = run(params, *jax.device_put((x, state), NamedSharding(mesh, P("data"))))
    assert all(leaf.sharding.spec[0] == "data" for leaf in jax.tree.leaves(got[0][1]))
    assert_near(got, run(params, x, state), 1e-5)


def _tree_zero(p, batch, dtype):
    return {"map": jnp.zeros((*batch, 2, 3), dtype), "sum": jnp.zeros(batch, dtype)}


def _tree_step(p, state, x):
    return {
        "map": jnp.tanh(p["decay"] * state["map"] + x),
        "sum": jnp.cos(p["decay"] * state["sum"]) + jnp.mean(x, (-2, -1)),
    }


@pytest.mark.parametrize("algorithm", ["newton", "quasi-newton"])
def test_states_may_be_trees_of_any_shapes_and_inputs_pictures(algorithm):
    structure = "diagonal" if algorithm == "newton" else None
    cell = F.Cell(_tree_zero, _tree_step, feature_axes=2, jacobian=structure)
    params = {"decay": jnp.float32(0.5)}
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, TIME, 2, 3)), jnp.float32)
    state = cell.zero_state(params, (2,), x.dtype)
    got, expected = (
        loss_of(cell, algorithm=a, lengths=np.array([5, 7]))(params, x, state) for a in (algorithm, "scan")
    )
    assert_near(got, expected, 1e-5)


def _count_zero(params, batch, dtype):
    return jnp.zeros((*batch, HIDDEN), jnp.int32)


def _count_step(params, state, x):
    return state + 1


def test_what_it_does_not_serve_is_refused():
    case, params, x, _ = setting("pairs")
    with pytest.raises(ValueError, match=r"algorithm='newton' has no structure .*Cell\.jacobian.*; use 'scan'"):
        F.gru(F.init_gru(jax.random.key(0), FEATURES, HIDDEN), x, algorithm="newton")
    with pytest.raises(ValueError, match=r"has no support for Blocks\(3\) in a state of 1 arrays"):
        F.recurrent(case.cell._replace(jacobian=F.Blocks(3)), params, x, algorithm="newton")
    with pytest.raises(ValueError, match=r"cell\.jacobian: expected 'diagonal' or Blocks\(n\).* got 'dense'"):
        F.recurrent(case.cell._replace(jacobian="dense"), params, x, algorithm="newton")
    with pytest.raises(ValueError, match=r"no support for a state of int32, only"):
        F.recurrent(F.Cell(_count_zero, _count_step, jacobian="diagonal"), {}, x, algorithm="newton")
    with pytest.raises(ValueError, match=r"algorithm: expected 'newton', .* got 'scan'"):
        F.recurrent_with_info(case.cell, params, x, algorithm="scan")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": -1.0}, "tolerance: expected a number of at least 0"),
        ({"tolerance": float("nan")}, "tolerance: expected a number of at least 0"),
        ({"iterations": 0}, "iterations: expected a whole number of at least 1, got 0"),
        ({"otherwise": "raise"}, "otherwise: expected 'scan' or 'nan', got 'raise'"),
        ({"jacobian": "dense"}, "jacobian: expected 'diagonal' or Blocks"),
        ({"jacobian": F.Blocks(0)}, "jacobian: expected 'diagonal' or Blocks"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        F.Newton(**settings)
