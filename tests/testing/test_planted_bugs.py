"""One bug of each common kind is planted, and must be caught; the right layer beside it must pass."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import testing
from jaxnn.testing.layer_properties import PROPERTIES
from tests.testing import layers
from tests.testing.planted import BUGS, RIGHT, caught, check_of, cube, false_alarms

SEEDS = range(25)


def float32(args):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), args)


class TestRightValues:
    @pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
    @pytest.mark.parametrize("n", [1, 10, 1000, 20000])
    def test_sums_of_any_length_raise_no_false_alarm(self, dtype, n):
        for seed in range(5):
            rng = np.random.default_rng(seed)
            args = rng.normal(size=(8, n)), rng.normal(size=(n, 8))
            testing.assert_close_to_oracle(jnp.matmul, np.matmul, args, dtype=dtype, reduction=n, sum_of_products=True)

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

    def test_at_one_element_is_caught_and_the_element_named(self):
        def partly_detached(params, x):
            weights = params["in"].at[2, 3].set(jax.lax.stop_gradient(params["in"][2, 3]))
            return layers.mlp({**params, "in": weights}, x)

        for mode in ("fwd", "rev"):
            with pytest.raises(AssertionError, match=r"worst at args\[0\]\['in'\]\[2, 3\]: got 0,"):
                testing.assert_gradients(partly_detached, layers.mlp_args(np.random.default_rng(0)), modes=[mode])

    def test_of_second_order_only_is_caught(self):
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


def test_trees_raise_no_false_alarm_under_transformations():
    testing.assert_invariant(layers.mlp, float32(layers.mlp_args(np.random.default_rng(0))))


class TestLayerChecks:
    """The list that `python -m tests.testing.planted` prints."""

    @pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
    def test_a_bug_is_caught(self, bug):
        assert re.search(bug.says, caught(bug))

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
