"""What the kernels become on each platform."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxnn import functional as F
from jaxnn.kernels import choices, conv, max_pool, sum_pool
from jaxnn.kernels.geometry import ConvGeometry, lax_conv
from jaxnn.kernels.settings import eigen_context
from tests.kernels.convolutions import ALONE, CONVOLUTIONS, DEPTHWISE, EVERY_PATH, GREY, PAIRS
from tests.kernels.pools import POOLS

CROPPED = ("taps that see padding only", "few, strided, dilated")
"""Whose last places see only padding, or nothing."""
accelerators = pytest.mark.parametrize("platform", ["cuda", "tpu"])


def derivatives(function):
    """A loss, its gradient, and the derivative of the function in forward mode."""

    def loss(*args):
        return jnp.sum(function(*args) ** 2)

    def program(*args):
        return jax.value_and_grad(loss, range(len(args)))(*args), jax.jvp(function, args, args)

    return program


def text(function, *args, platform):
    def program(*args):
        return function(*args)

    return jax.jit(program).trace(*args).lower(lowering_platforms=(platform,)).as_text()


@accelerators
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution_on_accelerators_is_the_program_of_lax(case, platform):
    x, k, _ = case.arrays(dtype=jnp.float32)

    def ours(x, k):
        return conv.conv(x, k, case.geometry)

    def plain(x, k):
        return lax_conv(x, k, case.geometry)

    assert text(ours, x, k, platform=platform) == text(plain, x, k, platform=platform)
    assert text(derivatives(ours), x, k, platform=platform) == text(derivatives(plain), x, k, platform=platform)


@pytest.mark.parametrize("case", [case for case in CONVOLUTIONS if case.name in CROPPED], ids=str)
def test_convolution_over_explicit_axes_of_cpus_has_no_negative_padding(case):
    """XLA:CPU of JAX 0.10 reads beside the array there; `jax.lax` writes the gradient of an input with it."""
    sharding = NamedSharding(jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,)), PartitionSpec("data"))
    x, k, _ = case.arrays(dtype=jnp.float32)

    def negative(convolve, x):
        program = text(derivatives(lambda x, k: convolve(x, k, case.geometry)), x, k, platform="cpu")
        return re.findall(r"pad = \[[^=]*-\d[^=]*\], lhs_dilate", program)

    with jax.set_mesh(sharding.mesh):
        assert not negative(conv.conv, jax.device_put(x, sharding))
    assert negative(lax_conv, x)


@accelerators
@pytest.mark.parametrize(("spatial", "window"), POOLS.values(), ids=POOLS)
@pytest.mark.parametrize(
    ("pool", "identity", "operation"),
    [(max_pool.max_pool, -jnp.inf, lax.max), (sum_pool.sum_pool, 0.0, lax.add)],
    ids=["max", "sum"],
)
def test_pooling_on_accelerators_is_the_program_of_lax(pool, identity, operation, spatial, window, platform):
    x = jnp.ones((2, *spatial, 3))

    def ours(x):
        return pool(x, window)

    def plain(x):
        return lax.reduce_window(
            x, identity, operation, (1, *window.size, 1), (1, *window.stride, 1), ((0, 0), *window.padding, (0, 0))
        )

    assert text(ours, x, platform=platform) == text(plain, x, platform=platform)
    if operation is lax.add:  # the derivatives of a maximum in `jax.lax` go astray at padding, infinities and NaN
        assert text(derivatives(ours), x, platform=platform) == text(derivatives(plain), x, platform=platform)


def training(case):
    """Gradient steps inside a compiled loop, where XLA:CPU's own transposes of a convolution are slow."""

    def loss(k, x):
        return jnp.sum(conv.conv(x, k, case.geometry) ** 2)

    def step(carry, _):
        dk, dx = jax.grad(loss, (0, 1))(*carry)
        return (carry[0] - dk, carry[1] - dx), None

    return lambda k, x: lax.scan(step, (k, x), length=3)[0]


on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="looks at the program for CPU")


@pytest.fixture
def without_avx512(monkeypatch):
    """The choices for other processors, on whatever machine."""
    monkeypatch.setattr(choices, "AVX512", False)


products = pytest.mark.usefixtures("without_avx512")


@on_cpu
@products
@pytest.mark.parametrize("eigen", [False, True], ids=["by default", "with Eigen"])
@pytest.mark.parametrize("case", EVERY_PATH, ids=str)
def test_convolutions_in_a_loop_have_the_form_that_xla_has_fast_kernels_for(case, eigen):
    x, k, _ = case.arrays(dtype=jnp.float32)
    with eigen_context(eigen):
        program = jax.jit(training(case)).lower(k, x).as_text()
    forms = {
        line.split("dim_numbers = ")[1].split(",\n")[0].split(", window")[0]
        for line in program.splitlines()
        if "stablehlo.convolution" in line
    }
    assert forms <= {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}
    assert forms or case in (ALONE, DEPTHWISE, GREY)  # no pass of these is a convolution by default


@on_cpu
@pytest.mark.parametrize("case", [ALONE, DEPTHWISE, GREY, PAIRS], ids=str)
def test_few_channels_are_multiplied_element_by_element(case):
    x, k, _ = case.arrays(dtype=jnp.float32)
    program = jax.jit(functools.partial(conv.conv, geometry=case.geometry)).lower(x, k).as_text()
    assert "stablehlo.convolution" not in program
    assert "stablehlo.dot_general" not in program


@on_cpu
def test_pictures_of_few_channels_are_multiplied_so_in_training_with_eigen():
    x, k = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    layer = functools.partial(conv.conv, geometry=ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1)))

    def convolutions(function):
        with eigen_context(True):
            return jax.jit(function).lower(k).as_text().count("stablehlo.convolution")

    assert convolutions(lambda k: layer(x, k)) == 1
    assert convolutions(lambda k: jax.grad(lambda k: jnp.sum(layer(x, k) ** 2))(k)) == 1  # the gradient itself


@on_cpu
@products
def test_what_is_large_for_one_example_is_not_laid_out_on_cpu():
    x, k = jax.ShapeDtypeStruct((1, 512, 512, 16), jnp.float32), jax.ShapeDtypeStruct((3, 3, 16, 16), jnp.float32)

    def gradients(x, k):
        y, pull = jax.vjp(lambda x, k: conv.conv(x, k, ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))), x, k)
        return pull(y)

    temporaries = jax.jit(gradients).lower(x, k).compile().memory_analysis().temp_size_in_bytes
    assert temporaries < 5 * 512 * 512 * 16 * 4  # columns alone would be nine inputs


@on_cpu
@products
@pytest.mark.parametrize("channels", [3, 32])
def test_temporaries_on_cpu_do_not_grow_with_the_batch(channels):
    geometry = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))

    def gradients(x, k, g):
        y, pull = jax.vjp(lambda x, k: conv.conv(x, k, geometry), x, k)
        return (y, *pull(g))

    def temporaries(batch):
        shapes = ((batch, 224, 224, channels), (3, 3, channels, 32), (batch, 224, 224, 32))
        compiled = jax.jit(gradients).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    columns_of_one = 224 * 224 * 9 * 32 * 4
    assert temporaries(67) < 3 * columns_of_one


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: sum_pool.sum_pool(x, POOLS["overlapping, padded"][1]),
        lambda x: max_pool.max_pool(x, POOLS["overlapping, padded"][1]),
        lambda x: conv.conv(x, jnp.ones((3, 3, 1, 4)), ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1), groups=4)),
    ],
    ids=["sum pool", "max pool", "depthwise"],
)
def test_the_way_back_of_a_step_of_one_pads_once_on_cpu(layer):
    """A pad for each tap is slow, and XLA:CPU compiles chains of them in programs that grow with each layer."""
    x = jax.ShapeDtypeStruct((2, 5, 6, 4), jnp.float32)
    ahead = text(layer, x, platform="cpu").count("stablehlo.pad")
    both = text(jax.grad(lambda x: jnp.sum(layer(x) ** 2)), x, platform="cpu").count("stablehlo.pad")
    assert both <= ahead + 3


@on_cpu
@pytest.mark.parametrize(
    "layer",
    [
        lambda x: F.avg_pool(x, 3, stride=1, padding="SAME"),
        lambda x: F.conv(x, jnp.ones((3, 3, 1, 4)), groups=4),
        lambda x: F.conv(x, jnp.ones((3, 3, 1, 4)), groups=4, pad_mode="reflect"),
    ],
    ids=["average pool", "depthwise", "depthwise, reflected"],
)
def test_a_row_of_windows_computes_each_of_them_once_on_cpu(layer):
    """XLA:CPU computed all windows before for a tap that sees no padding: the program grew with their square."""
    x = jnp.ones((2, 6, 6, 4))

    def operations(n):
        row = jax.jit(lambda x: functools.reduce(lambda x, _: layer(x), range(n), x))
        return row.lower(x).compile().as_text().count(" = ")

    two, four, six = map(operations, (2, 4, 6))
    assert six - four <= 1.1 * (four - two)
