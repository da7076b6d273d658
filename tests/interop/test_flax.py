"""Flax's weights, NNX and Linen: layers compute the same on both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxnn import interop, modules

X = jax.random.normal(jax.random.key(0), (2, 4, 3))


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def shaken(tree):
    """Arrays of which none is 0 or 1."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    return jax.tree.unflatten(structure, [jax.random.uniform(k, x.shape) for k, x in zip(keys, leaves, strict=True)])


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def there_and_back(ours, weights, names=None, **options):
    """Loads weights, writes them where others were, and finds them bit for bit."""
    loaded, _ = interop.from_flax(ours, weights, names, **options)
    shapes = jax.eval_shape(lambda: weights)
    written = interop.to_flax(loaded, shapes, names, **options)
    equal(written, weights)
    return loaded


OURS = {
    nnx.SimpleCell: modules.RNN,
    nnx.GRUCell: modules.GRU,
    nnx.LSTMCell: modules.LSTM,
    nnx.OptimizedLSTMCell: modules.LSTM,
    linen.SimpleCell: modules.RNN,
    linen.GRUCell: modules.GRU,
    linen.OptimizedLSTMCell: modules.LSTM,
}


@pytest.mark.parametrize("cell", [c for c in OURS if issubclass(c, nnx.Module)], ids=lambda c: c.__name__)
def test_recurrent_cells_of_nnx(cell):
    theirs = nnx.Bidirectional(nnx.RNN(cell(3, 5, rngs=nnx.Rngs(0))), nnx.RNN(cell(3, 5, rngs=nnx.Rngs(1))))
    params = nnx.state(theirs, nnx.Param)
    nnx.update(theirs, shaken(params))
    ours = OURS[cell](3, 5, bidirectional=True, rngs=nnx.Rngs(2))
    ours = there_and_back(ours, nnx.to_pure_dict(nnx.state(theirs, nnx.Param)))
    close(ours(X), theirs(X))
    module, _ = interop.from_flax(OURS[cell](3, 5, bidirectional=True, rngs=nnx.Rngs(2)), theirs)
    equal(nnx.state(module, nnx.Param), nnx.state(ours, nnx.Param))
    again = interop.to_flax(ours, nnx.clone(theirs))
    equal(nnx.state(again, nnx.Param), nnx.state(theirs, nnx.Param))


@pytest.mark.parametrize("cell", [c for c in OURS if not issubclass(c, nnx.Module)], ids=lambda c: c.__name__)
def test_recurrent_cells_of_linen(cell):
    class Theirs(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.RNN(cell(5))(x)
            return linen.RNN(cell(5))(x)

    variables = shaken(Theirs().init(jax.random.key(0), X))
    name = cell.__name__
    ours = OURS[cell](3, 5, layers=2, rngs=nnx.Rngs(2))
    ours = there_and_back(ours, variables, {"": f"{name}_0", "1": f"{name}_1"})
    close(ours(X), Theirs().apply(variables, X))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.words = nnx.Embed(7, 3, rngs=rngs)
        self.conv = modules.Conv(3, 4, (3,), rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.up = modules.ConvTranspose(4, 5, (4,), stride=2, rngs=rngs)
        self.out = modules.Dense(5, 2, rngs=rngs)

    def __call__(self, tokens):
        return self.out(self.up(self.norm(self.conv(self.words(tokens)))))


@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_a_network_of_linen(transpose_kernel):
    class Theirs(linen.Module):
        @linen.compact
        def __call__(self, tokens):
            x = linen.Conv(4, (3,))(linen.Embed(7, 3)(tokens))
            x = linen.BatchNorm(use_running_average=True)(x)
            x = linen.ConvTranspose(5, (4,), strides=(2,), transpose_kernel=transpose_kernel)(x)
            return linen.Dense(2)(x)

    tokens = jnp.array([[0, 6, 2, 2, 1]])
    variables = shaken(Theirs().init(jax.random.key(0), tokens))
    names = {"words": "Embed_0", "conv": "Conv_0", "norm": "BatchNorm_0", "up": "ConvTranspose_0", "out": "Dense_0"}
    ours = there_and_back(Net(nnx.Rngs(1)), variables, names, transpose_kernel=transpose_kernel)
    close(ours(tokens), Theirs().apply(variables, tokens))


def test_a_network_of_nnx_has_the_same_names():
    class Theirs(nnx.Module):
        def __init__(self, rngs):
            self.words, self.norm = nnx.Embed(7, 3, rngs=rngs), nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
            self.conv = nnx.Conv(3, 4, (3,), rngs=rngs)
            self.up = nnx.ConvTranspose(4, 5, (4,), strides=(2,), rngs=rngs)
            self.out, self.drop = nnx.Linear(5, 2, rngs=rngs), nnx.Dropout(0.5, deterministic=True, rngs=rngs)

        def __call__(self, tokens):
            return self.drop(self.out(self.up(self.norm(self.conv(self.words(tokens))))))

    theirs = Theirs(nnx.Rngs(0))
    nnx.update(theirs, shaken(nnx.state(theirs, nnx.Any(nnx.Param, nnx.BatchStat))))
    ours, report = interop.from_flax(Net(nnx.Rngs(1)), nnx.state(theirs))
    tokens = jnp.array([[0, 6, 2, 2, 1]])
    close(ours(tokens), theirs(tokens))
    assert len(report.rows) == 11
    assert not report.unused
    again = interop.to_flax(ours, nnx.state(Theirs(nnx.Rngs(2))))
    assert isinstance(again, nnx.State)
    weights = nnx.Any(nnx.Param, nnx.BatchStat)
    equal(nnx.filter_state(again, weights), nnx.state(theirs, weights))


def test_attributes_may_have_the_names_of_flax():
    class Net(nnx.Module):
        def __init__(self, seed):
            self.cell = nnx.Linear(3, 2, rngs=nnx.Rngs(seed))
            self.layers = nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(seed))])

    theirs = Net(0)
    ours, _ = interop.from_flax(Net(1), theirs)
    equal(nnx.state(ours, nnx.Param), nnx.state(theirs, nnx.Param))


def test_what_does_not_fit_is_named():
    ours = modules.GRU(3, 5, rngs=nnx.Rngs(0))
    ours.cells[0].params.b_hn[...] = jnp.ones(5)
    with pytest.raises(ValueError, match=r"model: expected GRUs whose b_hn is zero, since nnx.GRUCell has none"):
        interop.to_flax(ours, nnx.RNN(nnx.GRUCell(3, 5, rngs=nnx.Rngs(0))))
    with pytest.raises(ValueError, match=r"no ir/kernel \[3, 5\] for the model; .* x/kernel \[2\], which no layer"):
        interop.from_flax(ours, {"x": {"kernel": jnp.ones(2)}})
    with pytest.raises(ValueError, match="weights: expected arrays by name, got step of type int; give the weights"):
        interop.from_flax(ours, {"params": {"x": jnp.ones(2)}, "step": 3})
    with pytest.raises(ValueError, match="got params/x of type ShapeDtypeStruct"):
        interop.from_flax(ours, {"params": {"x": jax.ShapeDtypeStruct((2,), jnp.float32)}})
