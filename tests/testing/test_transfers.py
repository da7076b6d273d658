import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import testing

READS = {
    "float": (float, "__float__"),
    "int": (int, "__int__"),
    "bool": (bool, "__bool__"),
    "condition": (lambda x: 1 if x else 2, "__bool__"),
    "item": (lambda x: x.item(), "item"),
    "tolist": (lambda x: x.tolist(), "tolist"),
    "f-string": (lambda x: f"{x:.3f}", "__format__"),
    "print": (str, "__str__"),
    "repr": (repr, "__repr__"),
    "pickle": (pickle.dumps, "__reduce__"),
    "np.asarray": (lambda x: np.asarray(x), "np.asarray"),
    "np.array": (lambda x: np.array(x), "np.array"),
    "np.array of a list": (lambda x: np.array([x]), "np.array"),
    "np.asarray of bfloat16": (lambda x: np.asarray(BFLOAT16), "np.asarray"),
}
BFLOAT16 = jnp.ones((), jnp.bfloat16)

every_read = pytest.mark.parametrize(("read", "name"), READS.values(), ids=READS)


@every_read
def test_a_read_is_counted_once(read, name):
    x = jnp.float32(1.5)
    with testing.count_host_transfers() as reads:
        read(x)
    read(x)
    assert reads == {name: 1}


@every_read
def test_a_read_is_refused(read, name):
    x = jnp.float32(1.5)
    with pytest.raises(AssertionError, match="implicit transfer to the host"), testing.forbid_host_transfers():
        read(x)
    read(x)  # everything is as it was


def test_an_explicit_transfer_is_counted_as_such_and_allowed():
    tree = {"a": jnp.ones(3), "b": jnp.zeros(2)}
    with testing.count_host_transfers() as reads:
        jax.device_get(tree)
    assert reads == {"explicit": 2}
    with testing.forbid_host_transfers():
        np.testing.assert_array_equal(jax.device_get(tree)["a"], np.ones(3))
        jax.device_put(np.ones(3))


def test_an_explicit_transfer_does_not_excuse_a_later_one():
    x = jnp.float32(1.5)
    with pytest.raises(AssertionError, match="__float__"), testing.forbid_host_transfers():  # noqa: PT012
        jax.device_get(x)
        float(x)


def test_numpy_arrays_given_to_a_compiled_function_are_refused():
    step = jax.jit(lambda x: x + 1)
    step(np.ones(3, np.float32))
    with pytest.raises(AssertionError, match="host-to-device"), testing.forbid_host_transfers():
        step(np.ones(3, np.float32))


def test_a_loop_that_stays_on_the_device_passes():
    step = jax.jit(lambda x, key: (x + jax.random.normal(key, x.shape), jax.random.split(key, 1)[0]))
    x, key = step(jnp.zeros(3), jax.random.key(0))
    with testing.forbid_host_transfers(), testing.count_host_transfers() as reads:
        for _ in range(3):
            x, key = step(x, key)
        x.block_until_ready()
    assert not reads


def test_a_read_in_every_step_is_counted_in_every_step():
    step = jax.jit(lambda x: x + 1)
    x = jnp.zeros(())
    with testing.count_host_transfers() as reads:
        for _ in range(5):
            x = step(x)
            float(x)
    assert reads == {"__float__": 5}


def test_other_threads_are_left_alone():
    x = jnp.ones(3)
    values = []
    with testing.forbid_host_transfers():
        thread = threading.Thread(target=lambda: values.append(np.asarray(x).sum()))
        thread.start()
        thread.join()
    assert values == [3]


def test_numpy_itself_is_left_alone():
    with testing.forbid_host_transfers():
        assert np.asarray([1, 2]).sum() == np.array(3)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only on CPU does NumPy find an array's memory by itself")
def test_what_is_documented_as_not_seen_on_cpu_is_not_seen():
    x = jnp.ones(3)
    with testing.count_host_transfers() as reads:
        np.exp(x)
        memoryview(x)
        np.zeros(3)[:] = x
    assert not reads
