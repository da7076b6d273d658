"""Weights in a file: they come back bit for bit, and what does not fit is named."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from jaxnn import interop, models, train

TREE = {
    "conv": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3).T, "bias": jnp.ones(3, jnp.bfloat16)},
    "steps": jnp.int32(7),
    "mask": jnp.array([True, False]),
    "none": jnp.ones((0, 3), jnp.float16),
}


def test_a_pytree_comes_back_bit_for_bit_in_its_dtypes():
    interop.save_weights("a.safetensors", TREE, about={"é": [1, None]})
    again = interop.load_weights("a.safetensors", jax.eval_shape(lambda: TREE))
    jax.tree.map(np.testing.assert_array_equal, again, TREE)
    assert jax.tree.map(lambda x: x.dtype, again) == jax.tree.map(lambda x: x.dtype, TREE)
    assert interop.load_about("a.safetensors") == {"é": [1, None]}
    assert sorted(path.name for path in Path().iterdir()) == ["a.safetensors"]


def test_a_module_is_copied_and_not_changed():
    saved, other = (models.MLP((4, 3), rngs=nnx.Rngs(seed)) for seed in (0, 1))
    before = jax.tree.map(jnp.copy, nnx.state(other))
    interop.save_weights("a.safetensors", saved)
    again = interop.load_weights("a.safetensors", other)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again, nnx.Param), nnx.state(saved, nnx.Param))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(other), before)
    assert interop.load_about("a.safetensors") == {}


class Table(nnx.Variable):
    """A kind of variable that no library knows."""


class Quantised(nnx.Module):
    """A layer whose weights are no parameters."""

    def __init__(self, seed):
        self.kernel = Table(jax.random.randint(jax.random.key(seed), (3, 2), -127, 127, jnp.int8))
        self.scale = nnx.Variable(jnp.float32(0.1 + seed))
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(seed))
        self.cache = nnx.Cache(jnp.zeros(3))

    def __call__(self, x):
        return x @ (self.kernel[...].astype(x.dtype) * self.scale[...])


def test_variables_of_every_kind_are_weights_but_what_calls_make_is_not():
    saved, other = Quantised(0), Quantised(1)
    x = jnp.ones((1, 3))
    interop.save_weights("a.safetensors", saved)
    assert sorted(load_file("a.safetensors")) == ["kernel", "scale"]
    np.testing.assert_array_equal(interop.load_weights("a.safetensors", other)(x), saved(x))
    with pytest.raises(ValueError, match="got the variable kernel of Quantised; convert"):
        interop.to_torch(saved)


@pytest.mark.parametrize(
    ("path", "model", "message"),
    [
        ("a.bin", TREE, "path: expected a name that ends with .safetensors, got 'a.bin'"),
        ("a.safetensors", {}, "model: expected named arrays, got none"),
        ("a.safetensors", {"a/b": jnp.ones(2), "a": {"b": jnp.ones(1)}}, "expected named arrays, got two of one name"),
        ("a.safetensors", {"w": jnp.ones(2, jnp.float8_e5m2)}, r"got float8_e5m2 at w"),
    ],
    ids=["name", "empty", "twice", "float8"],
)
def test_what_cannot_be_saved_is_named(path, model, message):
    with pytest.raises(ValueError, match=message):
        interop.save_weights(path, model)
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"w": jnp.ones(2), "b": jnp.ones(1)},
            r"which should hold the arrays b float32\[1\], not nothing; build",
        ),
        ({"w": jnp.ones(3)}, r"w float32\[3\], not float32\[2\]"),
        ({"w": jnp.ones(2, jnp.bfloat16)}, r"w bfloat16\[2\], not float32\[2\]"),
        ({"v": jnp.ones(2)}, r"v float32\[2\], not nothing; w nothing, not float32\[2\]"),
        ({**{f"{n:02}": jnp.ones(1) for n in range(9)}, "w": jnp.ones(2)}, r"04 float32\[1\], not nothing; and 4 more"),
    ],
    ids=["missing", "shape", "dtype", "name", "many"],
)
def test_weights_of_another_model_are_named(model, message):
    interop.save_weights("a.safetensors", {"w": jnp.ones(2)})
    with pytest.raises(ValueError, match=message):
        interop.load_weights("a.safetensors", model)


def test_a_damaged_file_is_named_and_no_code_is_run():
    interop.save_weights("a.safetensors", TREE)
    whole = Path("a.safetensors").read_bytes()
    np.savez("foreign.npz", w=np.ones(2))
    for content in (whole[:40], b"", whole[:-1], whole[:-1] + b"x", Path("foreign.npz").read_bytes()):
        Path("a.safetensors").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"path: expected a whole safetensors file, got a.safetensors, which is dam"
        ):
            interop.load_weights("a.safetensors", TREE)
    with pytest.raises(FileNotFoundError):
        interop.load_about("nowhere.safetensors")
    with pytest.raises(IsADirectoryError, match="path: expected a file, got the folder"):
        interop.load_weights(Path(), TREE)


def test_places_that_cannot_be_written_and_what_json_cannot_hold_are_named():
    with pytest.raises(FileNotFoundError, match=r"path: expected a folder to write a.safetensors to, got no; make it"):
        interop.save_weights("no/a.safetensors", TREE)
    Path("b.safetensors").mkdir()
    with pytest.raises(IsADirectoryError, match=r"path: expected a file, got the folder b.safetensors; add"):
        interop.save_weights("b.safetensors", TREE)
    with pytest.raises(ValueError, match="about: expected values that JSON can hold, got Object of type ndarray"):
        interop.save_weights("a.safetensors", TREE, about={"mean": np.ones(3)})
    assert [path.name for path in Path().iterdir()] == ["b.safetensors"]


def test_a_file_of_pytorch_says_which_function_reads_it():
    save_file({"weight": np.ones((2, 3), np.float32)}, "a.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"kernel .* not nothing; .* it is PyTorch's: interop.from_torch\(model,"):
        interop.load_weights("a.safetensors", {"kernel": jnp.ones((3, 2))})


def test_a_whole_state_and_weights_alone_say_which_function_reads_them():
    state = train.create_state({"w": jnp.ones(2)}, optax.sgd(0.1), jax.random.key(0))
    train.save("a.safetensors", state)
    with pytest.raises(ValueError, match=r"a state that train\.save wrote is read with train\.load"):
        interop.load_weights("a.safetensors", state.params)
    interop.save_weights("a.safetensors", state.params)
    with pytest.raises(
        ValueError, match=r"weights that interop\.save_weights wrote are read with interop\.load_weights"
    ):
        train.load("a.safetensors", state)


def test_files_from_elsewhere_and_statistics():
    model = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    arrays = {name: np.full(3, i, np.float32) for i, name in enumerate(("bias", "mean", "scale", "var"))}
    save_file(arrays, "a.safetensors", {"about": "not JSON"})
    loaded = interop.load_weights("a.safetensors", model)
    assert [float(getattr(loaded, name)[0]) for name in arrays] == [0, 1, 2, 3]
    assert interop.load_about("a.safetensors") == {}
    interop.save_weights("b.safetensors", loaded)
    jax.tree.map(np.testing.assert_array_equal, load_file("b.safetensors"), arrays)
