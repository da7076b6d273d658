import functools

import jax
import jax.numpy as jnp
import pytest

from jaxnn import testing


def test_traces_are_recorded_by_name_and_only_within_the_block():
    @jax.jit
    def double(x):
        return x * 2

    with testing.record_traces() as traces:
        double(jnp.ones(3))
        double(jnp.zeros(3))
    double(jnp.ones(4))
    assert traces["double"] == 1


@pytest.mark.parametrize(
    ("step", "sizes", "times"),
    [(jax.jit(lambda x: x * 2), (4, 4, 3), 2), (lambda x: jax.jit(lambda x: x * 2)(x), (3, 3, 3), 3)],
    ids=["the last short batch", "jitted anew on every step"],
)
def test_more_traces_than_expected_are_an_error(step, sizes, times):
    def epoch():
        with testing.assert_traces(1, "<lambda>"):
            for size in sizes:
                step(jnp.ones(size))

    with pytest.raises(AssertionError, match=f"<lambda> was traced {times} times, expected 1: a shape, a dtype"):
        epoch()


def test_an_exception_passes_through_and_ends_the_recording():
    def failing():
        with testing.assert_traces(3, "step"):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        failing()


def test_too_few_traces_are_an_error_too():
    def idle():
        with testing.assert_traces(1, "step"):
            pass

    with pytest.raises(AssertionError, match=r"step was traced 0 times, expected 1$"):
        idle()


def test_operations_are_counted_before_and_after_optimisation():
    x, kernel = jnp.ones((1, 8, 8, 2)), jnp.ones((3, 3, 2, 4))
    conv = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert testing.compiled_ops(conv, x, kernel, optimized=False)["convolution"] == 1
    double = testing.compiled_ops(jax.jit(lambda x: jnp.sin(x) + jnp.cos(x)), x)
    assert (double["sine"], double["cosine"], double["add"], double["convolution"]) == (1, 1, 1, 0)


def test_operations_inside_loops_with_several_carries_are_counted():
    def loop(x):
        return jax.lax.scan(lambda c, _: ((c[0] @ c[1], c[1]), None), (x, x), length=3)[0]

    ops = testing.compiled_ops(loop, jax.ShapeDtypeStruct((3, 3), jnp.float32), optimized=False)
    assert (ops["while"], ops["dot"]) == (1, 1)


def test_calls_back_to_python_show_among_the_operations():
    def noisy(x):
        jax.debug.print("{}", x)
        return x

    ops = testing.compiled_ops(noisy, jnp.ones(3))
    assert ops["custom-call"] == 1
    assert any("callback" in name for name in ops)
    assert not any("callback" in name for name in testing.compiled_ops(jnp.sin, jnp.ones(3)))
