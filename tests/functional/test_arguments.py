import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F
from jaxnn import testing
from jaxnn.functional import arguments, paddings
from jaxnn.functional.recurrent import check


@pytest.mark.parametrize(
    ("given", "expected"),
    [(3, (3, 3)), ((1, 2), (1, 2)), ([1, 2], (1, 2)), (np.int64(2), (2, 2)), (np.array([1, 2]), (1, 2))],
    ids=str,
)
def test_sizes_are_one_int_per_axis(given, expected):
    assert arguments.sizes("stride", given, 2) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("VALID", ((0, 0), (0, 0))),
        ("SAME", ((1, 1), (1, 2))),
        ("SAME_LOWER", ((1, 1), (2, 1))),
        ("CAUSAL", ((2, 0), (4, 0))),
        (1, ((1, 1), (1, 1))),
        ([[0, 1], (2, np.int32(3))], ((0, 1), (2, 3))),
    ],
    ids=str,
)
def test_padding_becomes_pairs(given, expected):
    pairs = paddings.pairs_of(given, spatial=(7, 6), window=(3, 3), stride=(2, 2), dilation=(1, 2))
    assert pairs == expected


def test_same_needs_nothing_where_the_stride_outruns_the_window():
    assert paddings.pairs_of("SAME", spatial=(7,), window=(1,), stride=(3,), dilation=(1,)) == ((0, 0),)
    assert paddings.pairs_of("SAME", spatial=(8,), window=(2,), stride=(4,), dilation=(1,)) == ((0, 0),)


def test_batch_axes_become_one():
    x = jnp.arange(120).reshape(2, 3, 4, 5)
    joined, split = arguments.with_one_batch(x, 2)
    assert joined.shape == (6, 4, 5)
    np.testing.assert_array_equal(split(joined), x)
    assert split(joined[:, 0]).shape == (2, 3, 5)
    joined, split = arguments.with_one_batch(x[0, 0], 2)
    assert joined.shape == (1, 4, 5)
    np.testing.assert_array_equal(split(joined), x[0, 0])


def test_numpy_arrays_are_taken_in_the_dtype_that_jax_keeps_them_in():
    """float64 is NumPy's default; with warnings as errors this also says that no cast complains."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(6, 7, 4)), jnp.ones((3, 3, 4, 4))
    layers = {
        "conv": F.conv(x, kernel, np.zeros(4)),
        "true convolution": F.true_convolution(x, np.ones((3, 3, 4, 4))),
        "conv_transpose": F.conv_transpose(x, kernel, padding=np.ones((2, 2), int)),
        "dense": F.dense(x, np.ones((4, 2)), jnp.zeros(2)),
        "max_pool": F.max_pool(x, 2),
        "avg_pool": F.avg_pool(x, 2),
        "lp_pool": F.lp_pool(x, 2),
        "global_max_pool": F.global_max_pool(x),
        "global_avg_pool": F.global_avg_pool(x),
        "adaptive_avg_pool": F.adaptive_avg_pool(x, 2),
        "adaptive_max_pool": F.adaptive_max_pool(x, 2),
        "feature_maps": F.feature_maps(x, np.ones((2, 2))),
        "attention": F.attention(x, x)[0],
    }
    for name, y in layers.items():
        assert isinstance(y, jax.Array), name
        assert y.dtype == jnp.float32, name


def test_a_traced_size_is_told_how_to_be_static():
    with pytest.raises(ValueError, match=r"stride: .* got a traced value; make it static.*static_argnames='stride'"):
        jax.jit(F.conv)(jnp.ones((4, 4, 1)), jnp.ones((2, 2, 1, 1)), stride=2)


@pytest.mark.parametrize(("shape", "made"), [((5, 4, 3), "x.reshape(*x.shape[:-2], -1)"), ((4, 3), "x.reshape(-1)")])
def test_dense_says_which_axes_to_join(shape, made):
    x, kernel = jnp.ones(shape), jnp.ones((12, 2))
    with pytest.raises(ValueError, match=r"join its last 2 axes: ") as error:
        F.dense(x, kernel)
    assert made in str(error.value)
    assert F.dense(eval(made, {"x": x}), kernel).shape == (*shape[:-2], 2)


def test_one_batch_axis_is_neither_copied_nor_compiled():
    x = jnp.ones((2, 3, 4))
    with testing.record_compilations() as compiled:
        joined, split = arguments.with_one_batch(x, 2)
        again = split(joined)
    assert compiled == []
    assert joined.unsafe_buffer_pointer() == again.unsafe_buffer_pointer() == x.unsafe_buffer_pointer()


@pytest.mark.parametrize("read", [arguments.array, check.arrays])
def test_an_error_of_the_device_is_not_one_of_the_argument(read):
    with jax.transfer_guard("disallow"), pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device"):
        read("x", np.ones((2, 2), np.float32))
