"""One bug of each common kind is planted, and must be caught; the right layer beside it must pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import testing
from jaxnn.testing.layer_properties import PROPERTIES
from tests import oracles
from tests.testing import layers
from tests.testing.planted import BUGS, RIGHT, caught, check_of, false_alarms

SEEDS = range(25)


def float32(args):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), args)


class TestWrongValues:
    wrong = pytest.mark.parametrize(
        "layer",
        [
            pytest.param(lambda x, k, b: layers.conv(x, k.swapaxes(0, 1), b), id="transposed kernel"),
            pytest.param(lambda x, k, b: layers.conv(x, k[::-1, ::-1], b), id="flipped kernel"),
            pytest.param(lambda x, k, b: layers.conv(x, k, 0 * b), id="dropped bias"),
            pytest.param(lambda x, k, b: layers.conv(x, k, b[::-1]), id="bias of other channels"),
            pytest.param(lambda x, k, b: layers.conv(x, k, b, ((0, 2), (1, 1))), id="padding off by one"),
            pytest.param(lambda x, k, b: layers.conv(x, k, b, "VALID"), id="no padding"),
            pytest.param(lambda x, k, b: layers.conv(x, k, b).at[0, 0, 0].add(0.5), id="one element off"),
        ],
    )

    @wrong
    @pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
    def test_is_caught(self, layer, dtype):
        with pytest.raises(AssertionError, match=r"worst at \[|shape is"):
            testing.assert_close_to_oracle(
                layer, oracles.conv, layers.conv_args(np.random.default_rng(0)), dtype=dtype, **layers.CONV
            )

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
    def test_the_right_layer_raises_no_false_alarm(self, dtype):
        for seed in SEEDS:
            args = layers.conv_args(np.random.default_rng(seed))
            testing.assert_close_to_oracle(layers.conv, oracles.conv, args, dtype=dtype, **layers.CONV)

    @pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
    @pytest.mark.parametrize("n", [1, 10, 1000, 20000])
    def test_sums_of_any_length_raise_no_false_alarm(self, dtype, n):
        for seed in range(5):
            rng = np.random.default_rng(seed)
            args = rng.normal(size=(8, n)), rng.normal(size=(n, 8))
            testing.assert_close_to_oracle(jnp.matmul, np.matmul, args, dtype=dtype, reduction=n, sum_of_products=True)

    def test_sums_that_accumulate_in_bfloat16_are_caught(self):
        def summed_in_bfloat16(a, b):
            return jax.lax.fori_loop(0, 1000, lambda i, total: total + a[i] * b[i], jnp.zeros((), a.dtype))

        rng = np.random.default_rng(0)
        args = np.abs(rng.normal(size=1000)), np.abs(rng.normal(size=1000))
        with pytest.raises(AssertionError, match="worst at the result"):
            testing.assert_close_to_oracle(summed_in_bfloat16, np.dot, args, dtype="bfloat16", reduction=1000)

    @pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
    def test_trees_and_nonlinearities_raise_no_false_alarm(self, dtype):
        for seed in SEEDS:
            args = layers.mlp_args(np.random.default_rng(seed))
            testing.assert_close_to_oracle(layers.mlp, layers.mlp_oracle, args, dtype=dtype, reduction=6, roundings=4)


class TestWrongTies:
    # Few different values, so that most windows hold a tie.
    args = (np.random.default_rng(0).integers(0, 2, size=(4, 6, 2)).astype(float), np.ones((2, 3, 2)))

    @pytest.mark.parametrize("share", [layers.to_last, layers.to_all])
    def test_are_caught(self, share):
        with pytest.raises(AssertionError, match="differ by more than the tolerance"):
            testing.assert_close_to_oracle(
                layers.gradient_of(layers.max_pool_with_ties(share)),
                layers.max_pool_gradient_oracle,
                self.args,
                reduction=1,
            )

    @pytest.mark.parametrize("pool", [layers.max_pool, layers.max_pool_with_ties(layers.to_first)])
    def test_the_right_rule_passes(self, pool):
        testing.assert_close_to_oracle(
            layers.gradient_of(pool), layers.max_pool_gradient_oracle, self.args, reduction=1
        )


class TestWrongGradients:
    @pytest.mark.parametrize("mode", ["fwd", "rev"])
    def test_scaled_by_two_is_caught_and_the_factor_told(self, mode):
        layer = layers.scaled_gradient(layers.conv, 2)
        with pytest.raises(AssertionError, match=f"{mode} mode, order 1: (.|\n)*2 times what is expected"):
            testing.assert_gradients(layer, layers.conv_args(np.random.default_rng(0)), modes=[mode])

    def test_missing_for_one_argument_is_caught_and_the_argument_named(self):
        def detached(x, kernel, bias):
            return layers.conv(x, kernel, jax.lax.stop_gradient(bias))

        with pytest.raises(AssertionError, match=r"worst at args\[2\]\["):
            testing.assert_gradients(detached, layers.conv_args(np.random.default_rng(0)))

    def test_at_one_element_is_caught_and_the_element_named(self):
        def partly_detached(params, x):
            weights = params["in"].at[2, 3].set(jax.lax.stop_gradient(params["in"][2, 3]))
            return layers.mlp({**params, "in": weights}, x)

        for mode in ("fwd", "rev"):
            with pytest.raises(AssertionError, match=r"worst at args\[0\]\['in'\]\[2, 3\]: got 0,"):
                testing.assert_gradients(partly_detached, layers.mlp_args(np.random.default_rng(0)), modes=[mode])

    def test_of_second_order_only_is_caught(self):
        @jax.custom_jvp
        def cube(x):
            return x**3

        @cube.defjvp
        def _(primals, tangents):
            (x,), (tangent,) = primals, tangents
            return x**3, 3 * jax.lax.stop_gradient(x) ** 2 * tangent

        x = np.random.default_rng(0).normal(size=4)
        testing.assert_gradients(cube, (x,))
        for modes in (["fwd"], ["rev"], ["fwd", "rev"]):
            with pytest.raises(AssertionError, match="order 2"):
                testing.assert_gradients(cube, (x,), modes=modes, order=2)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_right_ones_raise_no_false_alarm(self, dtype):
        for seed in range(4):
            rng = np.random.default_rng(seed)
            testing.assert_gradients(layers.conv, layers.conv_args(rng), dtype=dtype, seed=seed)
            testing.assert_gradients(layers.mlp, layers.mlp_args(rng), dtype=dtype, seed=seed, order=2)


class TestWhatTransformationsChange:
    def test_state_that_leaks_between_plain_calls_is_caught(self):
        calls = []

        def leaky(x):
            calls.append(None)
            return x * len(calls)

        with pytest.raises(AssertionError, match="leaky, jit: state leaks"):
            testing.assert_invariant(leaky, (jnp.ones(3),), checks=["jit"])

    def test_randomness_that_jit_would_freeze_is_caught(self):
        rng = np.random.default_rng(0)

        def noisy(x):
            return x + rng.normal()

        with pytest.raises(AssertionError, match="noisy, jit: state leaks"):
            testing.assert_invariant(noisy, (jnp.ones(3),), checks=["jit"])

    def test_another_result_under_jit_is_caught(self):
        def differs(x):
            return x if isinstance(x, jax.core.Tracer) else 2 * x

        with pytest.raises(AssertionError, match=r"jit against no jit(.|\n)*every element is 0\.5 times"):
            testing.assert_invariant(differs, (jnp.ones(3),), checks=["jit"])

    def test_a_tracer_that_escapes_is_caught(self):
        kept = []

        def keeps(x):
            if isinstance(x, jax.core.Tracer):
                kept.append(x * 2)
            return x + 1

        with pytest.raises(AssertionError, match="a tracer escapes"):
            testing.assert_invariant(keeps, (jnp.ones(3),), checks=["jit"])

    def test_a_function_that_mixes_the_batch_is_caught(self):
        def normalised(x):  # means to take one example, but takes the first axis for the batch
            return x - x.mean(axis=0, keepdims=True)

        x = jnp.asarray(np.random.default_rng(0).normal(size=(4,)), jnp.float32)
        with pytest.raises(AssertionError, match="one batch axis against a loop"):
            testing.assert_invariant(normalised, (x,), checks=["batch"])

    def test_a_wrong_batching_rule_is_caught(self):
        @jax.custom_batching.custom_vmap
        def softmax(x):
            return jax.nn.softmax(x)

        @softmax.def_vmap
        def _(axis_size, in_batched, x):
            return jax.nn.softmax(x, axis=0), True

        x = jnp.asarray(np.random.default_rng(0).normal(size=(4,)), jnp.float32)
        with pytest.raises(AssertionError, match="vmap against a loop, values"):
            testing.assert_invariant(softmax, (x,), checks=["vmap"])

    def test_what_remat_computes_otherwise_is_caught(self):
        rng = np.random.default_rng(0)

        def noisy(x):  # each trace freezes another number
            return x * rng.normal()

        with pytest.raises(AssertionError, match="remat against plain, values"):
            testing.assert_invariant(noisy, (jnp.arange(3.0),), checks=["remat"])

    @pytest.mark.parametrize(
        "layer",
        [
            pytest.param(lambda x, k, b: layers.conv(x, k, b).astype(jnp.float32), id="float32 comes out"),
            pytest.param(lambda x, k, b: layers.conv(x, k, b) * np.float32(0.5), id="a float32 constant"),
            pytest.param(lambda x, k, b: (layers.conv(x, k, b) * jnp.ones(3)).astype(x.dtype), id="float32 half way"),
        ],
    )
    def test_bfloat16_that_turns_into_float32_is_caught(self, layer):
        args = float32(layers.conv_args(np.random.default_rng(0)))
        with pytest.raises(AssertionError, match="dtype: bfloat16"):
            testing.assert_invariant(layer, args, checks=["dtype"])

    def test_float32_that_turns_into_float64_under_x64_is_caught(self):
        with pytest.raises(AssertionError, match="dtype: float32 with x64 comes out as float64"):
            testing.assert_invariant(
                lambda x: jnp.zeros(x.shape), (jnp.ones(3),), checks=["dtype"], dtypes=["float32", "float64"]
            )

    @pytest.mark.parametrize("seed", range(3))
    def test_right_layers_pass_every_check(self, seed):
        rng = np.random.default_rng(seed)
        testing.assert_invariant(layers.conv, float32(layers.conv_args(rng)), batch_axes=(0, None, None))
        testing.assert_invariant(layers.mlp, float32(layers.mlp_args(rng)))


class TestTraces:
    def test_a_shape_that_varies_is_caught(self):
        step = jax.jit(lambda x: x * 2)

        def epoch():
            with testing.assert_traces(1, "<lambda>"):
                for size in (4, 4, 3):  # the last short batch
                    step(jnp.ones(size))

        with pytest.raises(AssertionError, match="traced 2 times, expected 1"):
            epoch()

    def test_a_function_jitted_anew_on_every_step_is_caught(self):
        def epoch():
            with testing.assert_traces(1, "<lambda>"):
                for _ in range(3):
                    jax.jit(lambda x: x * 2)(jnp.ones(3))

        with pytest.raises(AssertionError, match="was traced 3 times"):
            epoch()


class TestLayerChecks:
    """The list that `python -m tests.testing.planted` prints."""

    @pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
    def test_a_bug_is_caught(self, bug):
        assert caught(bug)

    @pytest.mark.parametrize(
        ("layer", "check"), sorted({(name, bug.check) for bug in BUGS for name in RIGHT if bug.right is RIGHT[name]})
    )
    def test_the_right_layer_passes_the_same_check(self, layer, check):
        check_of(RIGHT[layer], check)()

    def test_there_are_many(self):
        assert len({bug.name for bug in BUGS}) == len(BUGS) >= 40
        assert {bug.check.split("-")[0] for bug in BUGS} == set(PROPERTIES)

    @pytest.mark.slow
    @pytest.mark.parametrize("first", range(0, 1000, 100))
    def test_right_layers_raise_no_false_alarm_over_a_thousand_seeds(self, first):
        assert false_alarms(range(first, first + 100)) == []
