"""Convolution by oneDNN: the same numbers as `jax.lax`, and called only where a program may call it."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import export, lax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn.kernels import canonical, choices, conv, onednn
from jaxnn.kernels.geometry import ConvGeometry, lax_conv
from jaxnn.testing import compiled_ops
from tests.kernels.convolutions import CONVOLUTIONS

CALL = "custom-call:__onednn$convolution"
SAME = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))


@pytest.fixture(autouse=True, scope="module")
def _without_a_persistent_cache():
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JAXNN_ONEDNN", "1")
            patch.setattr(choices, "SMALL", 0)
            patch.setattr(choices, "SMALL_DW", 0)
            if not onednn.available():
                pytest.skip("XLA brings no oneDNN here that is known: another processor, system or release of jaxlib")
            yield
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()


def arrays(geometry, spatial, window, channels, batch=8):
    rng = np.random.default_rng(0)
    out = geometry.window(window).out(spatial)
    shapes = (
        (batch, *spatial, channels[0]),
        (*window, channels[0] // geometry.groups, channels[1]),
        (batch, *out, channels[1]),
    )
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)


def assert_same(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(np.asarray(b)).max(initial=1))


def transposes(function):
    def run(x, kernel, g):
        y, pull = jax.vjp(function, x, kernel)
        return (y, *pull(g))

    return jax.jit(run)


def by_onednn(geometry, x, kernel, g):
    """The convolution and its two transposes, each where oneDNN computes it."""
    spatial, window, places = x.shape[1:-1], kernel.shape[:-2], g.shape[1:-1]

    def computes(kind):
        return onednn.knows(kind, x.dtype, geometry, kernel.shape, places)

    y = onednn.conv(x, kernel, geometry) if computes("conv") else None
    strided = set(geometry.stride) != {1}
    dx = None if strided or not computes("conv_dx") else canonical.conv_dx(onednn.conv, g, kernel, spatial, geometry)
    dw = canonical.conv_dw(onednn.conv, x, g, window, geometry, pads=False) if computes("conv_dw") else None
    return y, dx, dw


def check(geometry, spatial, window, channels, batch):
    x, kernel, g = arrays(geometry, spatial, window, channels, batch)
    with jax.enable_x64(True):  # in float32 XLA:CPU of JAX 0.10 reads beside the array where padding exceeds the window
        wide = (jnp.asarray(a, jnp.float64) for a in (x, kernel, g))
        expected = transposes(lambda x, kernel: lax_conv(x, kernel, geometry))(*wide)
    got = jax.jit(lambda *operands: by_onednn(geometry, *operands))(x, kernel, g)
    for a, b in zip(got, expected, strict=True):
        if a is not None:
            assert_same(a, b)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_value_and_transposes_are_those_of_lax(case):
    check(case.geometry, case.spatial, case.window, case.channels, 3)


@st.composite
def geometries(draw):
    n = draw(st.integers(1, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(n))

    window, stride, dilation = each(1, 4), each(1, 3), each(1, 2)
    padding = tuple(zip(each(0, 3), each(0, 3), strict=True))
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True))
    spatial = tuple(r + more for r, more in zip(reach, each(0, 6), strict=True))
    *channels, groups = draw(
        st.sampled_from([(1, 1, 1), (1, 16, 1), (3, 5, 1), (8, 8, 1), (33, 17, 1), (16, 8, 4), (8, 24, 8), (6, 9, 3)])
    )
    batch = draw(st.sampled_from([1, 2, 9]))
    return ConvGeometry(stride, padding, dilation, groups), spatial, window, channels, batch


# One output along an axis with a stride, and one channel: for the kernel's gradient that is one example.
@example(case=(ConvGeometry((1, 3), ((0, 0), (0, 0)), (1, 1)), (9, 4), (3, 3), (1, 8), 8))
# One output in all, of a window of 28 taps or more; the second is the gradient of such a kernel.
@example(case=(ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1)), (7, 4), (7, 4), (2, 1), 8))
@example(case=(ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1)), (7, 4), (1, 1), (8, 1), 2))
@example(case=(ConvGeometry((2, 1, 1), ((3, 1), (1, 3), (2, 1)), (1, 1, 2)), (1, 6, 6), (1, 3, 1), (33, 17), 1))
@given(case=geometries())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_geometry_is_that_of_lax(case):
    check(*case)


@pytest.mark.parametrize("batch", [8, 3])
def test_every_derivative_is_that_of_lax(batch):
    x, kernel, _ = arrays(SAME, (6, 5), (3, 3), (8, 16), batch)

    def everything(function):
        def loss(x, kernel):
            return jnp.sum(jnp.tanh(function(x, kernel)))

        gradient = jax.grad(loss, (0, 1))
        return jax.jit(
            lambda x, k: (jax.jvp(function, (x, k), (x, k)), gradient(x, k), jax.jvp(gradient, (x, k), (x, k)))
        )

    ours = everything(lambda x, kernel: conv.conv(x, kernel, SAME))
    assert compiled_ops(ours, x, kernel)[CALL]
    assert_same(ours(x, kernel), everything(lambda x, kernel: lax_conv(x, kernel, SAME))(x, kernel))


def test_members_of_an_ensemble_are_as_alone():
    x, kernel, g = arrays(SAME, (6, 5), (3, 3), (8, 8))
    x, kernel, g = (jnp.stack([a, 2 * a, -a]) for a in (x, kernel, g))
    one = transposes(lambda x, kernel: conv.conv(x, kernel, SAME))
    together = jax.jit(jax.vmap(one))
    assert compiled_ops(together, x, kernel, g)[CALL]
    assert_same(together(x, kernel, g), lax.map(lambda operands: one(*operands), (x, kernel, g)))


@pytest.mark.optimized
def test_nan_and_infinities_are_those_of_lax():
    x, kernel, g = arrays(SAME, (6, 5), (3, 3), (8, 8))
    x, g = (
        x.at[0, 2, 1, 3].set(jnp.nan).at[1, 4, 4, 0].set(jnp.inf),
        g.at[2, 3, 3, 1].set(-jnp.inf).at[3, 0, 0].set(jnp.nan),
    )
    ours = transposes(lambda x, kernel: conv.conv(x, kernel, SAME))(x, kernel, g)
    plain = transposes(lambda x, kernel: lax_conv(x, kernel, SAME))(x, kernel, g)
    for name, a, b in zip(("y", "dx", "dw"), ours, plain, strict=True):
        np.testing.assert_array_equal(jnp.isnan(a), jnp.isnan(b), err_msg=name)
        np.testing.assert_array_equal(jnp.where(jnp.isinf(a), a, 0), jnp.where(jnp.isinf(b), b, 0), err_msg=name)


def test_calls_side_by_side_do_not_disturb_each_other():
    x, kernel, _ = arrays(SAME, (12, 12), (3, 3), (16, 16))
    kernels = [kernel * (i + 1) for i in range(6)]

    @jax.jit
    def many(kernels, x):
        return jax.grad(lambda ks, x: sum(jnp.sum(conv.conv(x, k, SAME) ** 3) for k in ks), (0, 1))(kernels, x)

    first = many(kernels, x)
    for _ in range(100):
        for a, b in zip(jax.tree.leaves(many(kernels, x)), jax.tree.leaves(first), strict=True):
            np.testing.assert_array_equal(a, b)


def training(x, kernel):
    """Gradient steps inside a compiled loop."""

    def step(carry, _):
        dx, dk = jax.grad(lambda x, k: jnp.sum(conv.conv(x, k, SAME) ** 2), (0, 1))(*carry)
        return (carry[0] - dx, carry[1] - dk), None

    return lax.scan(step, (x, kernel), length=3)[0]


def test_a_training_step_calls_it_for_all_three():
    x, kernel, _ = arrays(SAME, (6, 5), (3, 3), (8, 8))
    calls = compiled_ops(training, x, kernel)
    assert (calls[CALL], calls["convolution"]) == (3, 0)


def test_it_is_called_only_where_a_program_may_call_it(monkeypatch):
    x, kernel, _ = arrays(SAME, (6, 5), (3, 3), (8, 8))

    def calls(x=x, kernel=kernel, geometry=SAME):
        jax.clear_caches()
        return compiled_ops(lambda x, k: conv.conv(x, k, geometry), x, kernel, optimized=False)[CALL]

    assert calls() == 1
    assert not calls(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert not calls(x[:0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choices, "SMALL", 8 * 6 * 5 * kernel.size + 1)
        assert not calls()
    assert not calls(geometry=ConvGeometry((1, 1), ((-1, 1), (1, 1)), (1, 1)))
    assert not calls(x[:, :, :3], kernel, ConvGeometry((1, 2), ((0, 0), (0, 0)), (1, 1)))  # one output along the stride
    assert not calls(geometry=ConvGeometry((1, 1), ((3, 1), (1, 1)), (1, 1)))  # a window that sees padding alone
    jax.config.update("jax_compilation_cache_dir", "cache")
    assert not calls()
    jax.config.update("jax_compilation_cache_dir", None)
    assert calls() == 1
    monkeypatch.delenv("JAXNN_ONEDNN")
    assert not calls()
    monkeypatch.undo()
    monkeypatch.setattr(onednn, "works", lambda: False)
    assert not calls()


def run_case(geometry, spatial, window, channels):
    arguments = arrays(geometry, spatial, window, channels)
    jax.block_until_ready(jax.jit(lambda *operands: by_onednn(geometry, *operands))(*arguments))


# Where oneDNN has no direct kernel it multiplies matrices in nested loops: that ended the process with a dilated
# depthwise 3x3. Which kernels it has depends on the processor.
CROWDED = [
    (ConvGeometry((1, 1), ((6, 6), (6, 6)), (6, 6), 32), (28, 28), (3, 3), (32, 32)),
    (ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1), 32), (14, 14), (7, 7), (32, 32)),  # the gradient pads 6
    (ConvGeometry((1, 1), ((4, 4), (4, 4)), (1, 1), 32), (14, 14), (9, 9), (32, 32)),
    (ConvGeometry((8,), ((8, 0),), (3,), 32), (19,), (5,), (32, 32)),
    (ConvGeometry((1,), ((1, 1),), (1,), 8), (12,), (3,), (8, 8)),
    (ConvGeometry((1, 1, 1), ((1, 1),) * 3, (1, 1, 1), 8), (6, 6, 6), (3, 3, 3), (8, 8)),
    (ConvGeometry((1, 1, 1), ((1, 1),) * 3, (1, 1, 1), 8), (6, 6, 6), (3, 3, 3), (32, 8)),
]


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])  # the most that a processor with more is allowed
def test_it_is_called_only_where_it_has_a_direct_kernel(instructions):
    code = "from tests.kernels.test_onednn import CROWDED, run_case\nfor case in CROWDED: run_case(*case)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment |= {"ONEDNN_MAX_CPU_ISA": instructions, "ONEDNN_VERBOSE": "1", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = str(Path(onednn.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    calls = [line for line in done.stdout.splitlines() if ",exec,cpu,convolution," in line]
    assert calls
    assert not [line for line in calls if "gemm" in line or "ref" in line]


@pytest.mark.parametrize("ends", ["import os; os.abort()", "raise SystemExit(1)"], ids=["crash", "wrong values"])
def test_a_release_that_fails_in_its_own_process_is_not_called_and_asked_once(ends, monkeypatch, tmp_path):
    asked = []

    def run(command, **options):
        asked.append(command)
        return ran([*command[:-1], ends], **options)

    ran = subprocess.run
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        onednn.works.cache_clear()
        assert not onednn.works()
    assert len(asked) == 1
    assert len(list((tmp_path / "jaxnn").iterdir())) == 1
    monkeypatch.setattr(onednn, "_processor", lambda: None)  # not x86, not Linux: not even asked
    onednn.works.cache_clear()
    assert not onednn.works()
    assert len(asked) == 1
    monkeypatch.undo()
    onednn.works.cache_clear()


@pytest.mark.parametrize("home", ["none", "a file"])
def test_an_answer_that_cannot_be_kept_is_used(home, monkeypatch, tmp_path):
    """Containers run for users without a home folder, or with one that cannot be written."""

    def found(_):
        if home == "none":
            raise RuntimeError
        return tmp_path / "home"

    (tmp_path / "home").touch()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(found))
    monkeypatch.setattr(onednn, "_tried", lambda: True)
    onednn.works.cache_clear()
    assert onednn.works()
    monkeypatch.undo()
    onednn.works.cache_clear()


def test_an_exported_program_does_not_call_it():
    x, kernel, _ = arrays(SAME, (6, 5), (3, 3), (8, 8))
    exported = export.export(jax.jit(training), platforms=["cpu"])(x, kernel)
    assert "__onednn" not in exported.mlir_module()


def test_a_program_over_several_devices_does_not_call_it():
    if jax.device_count() < 2:
        pytest.skip("needs several devices; XLA_FLAGS=--xla_force_host_platform_device_count=8 makes them")
    x, kernel, _ = arrays(SAME, (6, 5), (3, 3), (8, 8))
    mesh = jax.make_mesh((2,), ("data",))
    x = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    kernel = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
    assert not compiled_ops(training, x, kernel)[CALL]
