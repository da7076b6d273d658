"""`layer_checks` on layers of this library: an id for each property and dtype. `tests/cases.py` has every layer."""

import functools
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn import functional as F
from jaxnn import pytest_plugin, testing
from tests import oracles, oracles_recurrent


@testing.layer_checks(
    F.dense, oracle=oracles.dense, batch_axes=(0, None, None), batch=True, reduction=5, sum_of_products=True
)
def test_dense(rng):
    return rng.normal(size=5), rng.normal(size=(5, 3)), rng.normal(size=3)


def rnn(params, x):
    return F.rnn(params, x)[0]


def rnn_in_numpy(params, x):
    y, _ = oracles_recurrent.batch(oracles_recurrent.rnn_step, params, x, (np.zeros((*x.shape[:-2], 3)),))
    return y


@testing.layer_checks(
    rnn,
    oracle=rnn_in_numpy,
    batch_axes=(None, 0),
    batch=True,
    reduction=12,
    roundings=24,
    without=["empty", "half_gradients"],
)
def test_rnn(rng):
    shapes = jax.eval_shape(lambda: F.init_rnn(jax.random.key(0), 2, 3))
    return jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape), shapes), rng.normal(size=(4, 2))


class Metafunc:
    fixturenames = ("layer_check",)
    function = staticmethod(test_dense)

    def parametrize(self, name, values, ids):
        self.parametrized = name, values, ids


def test_each_property_and_dtype_has_an_id():
    metafunc = Metafunc()
    pytest_plugin.pytest_generate_tests(metafunc)
    checks = test_dense.layer_checks
    assert metafunc.parametrized == ("layer_check", list(checks.values()), list(checks))
    assert list(checks)[:3] == ["values-bfloat16", "values-float16", "values-float32"]


def test_what_does_not_concern_a_layer_is_left_out():
    @testing.layer_checks(lambda n: n + 1, batch_axes=None, without=["export", "static"])
    def add_one(rng):
        return (rng.integers(0, 9, 3),)

    names = {check.split("-")[0] for check in add_one.layer_checks}
    assert names == {"dtype", "jit", "remat", "gradients", "half_gradients", "empty", "eager"}
    add_one.layer_checks["jit-float32"]()
    with pytest.raises(SkipTest, match="floating-point"):
        add_one.layer_checks["gradients-float64"]()


def test_a_function_is_static_also_when_it_is_jitted_or_bound():
    for layer in (jax.jit(lambda x: 2 * x), jax.nn.relu, functools.partial(jnp.sum, axis=0)):
        testing.layer_checks(layer)(lambda rng: (rng.normal(size=3),)).layer_checks["static-float32"]()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"without: expected some of .*, got \['speed'\]"):
        testing.layer_checks(F.dense, without=["speed"])
    check = testing.layer_checks(jax.nn.relu)(lambda rng: rng.normal(size=3)).layer_checks["jit-float32"]
    with pytest.raises(ValueError, match="args: expected a tuple of arguments for relu, got ndarray"):
        check()


def process(code):
    root = Path(jaxnn.__file__).parents[1]
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)


def test_it_imports_with_jax_numpy_and_chex_alone():
    """Whatever else is installed here, nothing may import it but JAX and chex themselves."""
    code = """
import sys, jax, chex
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("flax", "optax", "orbax", "filelock", "pytest", "grain", "scipy", "sklearn", "tyro"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from jaxnn import testing
import jax.numpy as jnp
@testing.layer_checks(jnp.matmul, oracle=jnp.matmul, batch_axes=(0, None))
def test(rng):
    return rng.normal(size=4), rng.normal(size=(4, 3))
test.layer_checks["dtype-bfloat16"]()
print(len(test.layer_checks))
"""
    done = process(code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


def test_the_plugin_costs_nothing_where_it_is_not_used():
    code = (
        "import sys; before = set(sys.modules); import jaxnn.pytest_plugin; print(*sorted(set(sys.modules) - before))"
    )
    assert process(code).stdout.split() == ["jaxnn", "jaxnn.pytest_plugin"]
