"""What a program costs, and the table of parameters."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import inspect, train
from tests.train.toys import MLP, ConvNet, blobs, quadratic


def test_nothing_runs_and_one_trace_serves_flops_and_program():
    loss_fn = chex.assert_max_traces(quadratic, n=1)
    state = train.create_state(jnp.zeros(3), optax.sgd(0.1), jax.random.key(0))
    data = np.ones((16, 3), np.float32), np.ones(16, np.float32)
    cost = inspect.cost(train.make_epoch(train.make_step(loss_fn), batch_size=8), state, data)
    assert cost.flops == 2 * 2 * (2 * 8 * 3)
    assert cost.seconds > 0
    assert not state.params.is_deleted()


def test_memory_is_that_of_the_arrays():
    cost = inspect.cost(jax.jit(lambda x, y: (x + 1, y @ y), donate_argnums=0), jnp.zeros(1000), jnp.zeros((10, 10)))
    assert cost.memory.arguments == 4 * 1100
    assert cost.memory.outputs - cost.memory.reused in range(400, 500)  # and the table of the outputs' pointers
    assert cost.memory.reused == 4000
    assert cost.memory.peak == 4400 + cost.memory.outputs - 4000 + cost.memory.temporaries


def test_shapes_serve_in_place_of_arrays():
    w = jax.ShapeDtypeStruct((1 << 20, 1 << 20), jnp.float32)  # 4 TiB
    cost = inspect.cost(lambda w: w.T @ w, w)
    assert cost.flops == 2 * 2**60
    assert cost.memory.arguments == 1 << 42


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_memory_is_that_of_one_device_and_flops_are_of_all():
    parallel = train.parallel(8)
    data = blobs(64)
    alone, spread = (
        inspect.cost(train.make_epoch(train.make_step(train.losses.classification()), batch_size=16, parallel=p), s, d)
        for p, s, d in [
            (None, start(), data),
            (parallel, parallel.state(start()), parallel.data(data)),
        ]
    )
    assert (
        alone.flops
        == spread.flops
        == 4 * inspect.flops(train.make_step(train.losses.classification()), start(), blobs(16))
    )
    assert abs(alone.memory.arguments - spread.memory.arguments) < 1000


def start():
    return train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))


def test_a_backend_that_does_not_tell():
    @dataclasses.dataclass
    class Silent:
        def memory_analysis(self):
            return None

    assert inspect.cost(Jitted(Silent()), 1).memory is None


@dataclasses.dataclass
class Jitted:
    """A jitted function whose program is given."""

    program: object

    def trace(self, x):
        traced = jax.jit(lambda x: x + 1).trace(x)
        self.jaxpr = traced.jaxpr
        return self

    def lower(self):
        return self

    def compile(self):
        return self.program


def test_a_line_a_layer_and_the_total():
    lines = inspect.summary(ConvNet()).splitlines()
    names = [line.split()[0] for line in lines]
    assert names == ["layer", "conv", "norm", "out", "total"]
    assert "scale (4,)" in lines[2]
    assert "mean" not in lines[2]  # is no parameter
    assert lines[-1].split()[1:] == ["59", "236", "B"]  # 36 of the kernel, 8, and 4 * 3 + 3
    assert len({len(line) for line in lines}) == 1


def test_other_dtypes_shapes_and_functional_parameters():
    params = {"a": jax.ShapeDtypeStruct((3, 2), jnp.bfloat16), "deep": [{"b": jnp.zeros(())}]}
    first, second, total = (line.split() for line in inspect.summary(params).splitlines()[1:])
    assert first == ["a", "(3,", "2)", "bfloat16", "6", "12", "B"]
    assert second == ["deep.0", "b", "()", "float32", "1", "4", "B"]
    assert total == ["total", "7", "16", "B"]


def test_no_parameters_are_reported():
    with pytest.raises(ValueError, match="model: expected parameters to list, got none"):
        inspect.summary(nnx.Dropout(0.5))


def test_what_is_no_parameters_is_reported():
    with pytest.raises(ValueError, match=r"model: .* got dict with key as .*; of a train state give state\.all_params"):
        inspect.summary({"w": jnp.ones(3), "key": jax.random.key(0)})
