"""LeNet, LeNet-5 and the CIFAR-10 network: sizes, and agreement with the same network in PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import models

NETWORKS = {
    "LeNet": (lambda: models.LeNet((8, 8, 1), rngs=nnx.Rngs(0)), (8, 8, 1)),
    "LeNet-5": (lambda: models.LeNet5((28, 28, 1), rngs=nnx.Rngs(0)), (28, 28, 1)),
    "CIFAR-10": (lambda: models.Cifar10Net(rngs=nnx.Rngs(0)), (32, 32, 3)),
    "CIFAR-10, same": (lambda: models.Cifar10Net((9, 11, 2), padding="SAME", rngs=nnx.Rngs(0)), (9, 11, 2)),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def made(name):
    return nnx.jit(NETWORKS[name][0])()


def new(name):
    """A network of its own; the drawing of its parameters is compiled once."""
    return nnx.clone(made(name))


def pictures(*shape, seed=0, dtype=jnp.float32):
    return jax.device_put(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def cross_entropy(net, x, labels):
    return optax.softmax_cross_entropy_with_integer_labels(net(x), labels).mean()


@every_network
def test_logits_for_any_batch(name):
    net, picture = new(name), NETWORKS[name][1]
    x = pictures(2, 3, *picture)
    y = nnx.jit(lambda net, x: net(x))(net, x)
    assert y.shape == (2, 3, 10)
    single = nnx.jit(lambda net, x: net(x))(net, np.asarray(x)[1, 2])
    np.testing.assert_allclose(single, np.asarray(y)[1, 2], rtol=1e-4, atol=1e-5)
    assert jax.eval_shape(net, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@every_network
def test_gradients_reach_every_parameter(name):
    net, picture = new(name), NETWORKS[name][1]
    labels = jnp.arange(40) % 10
    gradients = nnx.jit(nnx.grad(cross_entropy))(net, pictures(40, *picture), labels)
    for path, gradient in jax.tree.leaves_with_path(gradients):
        reached = np.mean(np.asarray(gradient) != 0)
        masked = "c3" in str(path) and gradient.ndim == 4
        # 60 of the 96 connections of C3; elsewhere units of ReLU may be dead on so few pictures.
        assert reached == 60 / 96 if masked else reached > 0.5, (path, reached)


def test_parameter_counts():
    net = new("CIFAR-10")
    assert size(nnx.state(net, nnx.Param)) == 1_204_682
    sizes = {"conv1": 896, "conv2": 18_496, "dense1": 1_180_160, "dense2": 5_130}
    assert {name: size(nnx.state(getattr(net, name))) for name in sizes} == sizes
    assert size(nnx.state(new("LeNet"))) == 320 + 18_496 + 131_584 + 5_130


def test_lenet5_trains_the_papers_60000_parameters():
    """By layer as the paper counts them; of C3's kernel only what gradients reach."""
    net = models.LeNet5(rngs=nnx.Rngs(0))
    gradients = nnx.jit(nnx.grad(cross_entropy))(net, pictures(20, 32, 32, 1), jnp.arange(20) % 10)
    trained = {
        name: sum(int(np.count_nonzero(leaf)) for leaf in jax.tree.leaves(gradients[name]))
        for name in ("c1", "s2", "c3", "s4", "c5", "f6")
    }
    assert trained == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert sum(trained.values()) == 60_000


# Table I of the paper, by columns: which maps of S2 each map of C3 sees.
C3_SEES = [
    *[(i, (i + 1) % 6, (i + 2) % 6) for i in range(6)],
    *[(i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)],
    *[(0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)],
    tuple(range(6)),
]


def test_lenet5_is_the_papers_network_in_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    net = new("LeNet-5")
    for layer in (net.s2, net.s4):  # not ones and zeros
        layer.coefficient[...] = 1 + 0.1 * pictures(*layer.coefficient.shape)
        layer.bias[...] = 0.1 * pictures(*layer.bias.shape, seed=1)

    def tensor(variable):
        return torch.tensor(np.asarray(variable[...]))

    def conv(x, layer, sees=None):
        weight = tensor(layer.kernel).permute(3, 2, 0, 1)
        if sees is None:
            return torch.nn.functional.conv2d(x, weight, tensor(layer.bias))
        maps = [torch.nn.functional.conv2d(x[:, see], weight[o : o + 1, see]) for o, see in enumerate(map(list, sees))]
        return torch.cat(maps, 1) + tensor(layer.bias)[:, None, None]

    def subsample(x, layer):
        pooled = torch.nn.functional.avg_pool2d(x, 2)
        return pooled * tensor(layer.coefficient)[:, None, None] + tensor(layer.bias)[:, None, None]

    def squash(a):
        return 1.7159 * torch.tanh(2 / 3 * a)

    x = pictures(3, 28, 28, 1)
    h = torch.nn.functional.pad(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2), (2, 2, 2, 2))
    h = squash(subsample(squash(conv(h, net.c1)), net.s2))
    h = squash(subsample(squash(conv(h, net.c3, C3_SEES)), net.s4))
    h = squash(conv(h, net.c5)).flatten(1)
    h = squash(h @ tensor(net.f6.kernel) + tensor(net.f6.bias))
    logits = h @ tensor(net.output.kernel) + tensor(net.output.bias)
    np.testing.assert_allclose(nnx.jit(lambda net: net(x))(net), logits.numpy(), rtol=1e-4, atol=1e-4)


def test_lenet5_starts_with_maps_of_equal_variance():
    """Though C3's see 3, 4 or 6 maps."""
    net = models.LeNet5(rngs=nnx.Rngs(0))
    variance = np.asarray(net.c3.kernel[...]).var((0, 1, 2))
    for o, seen in enumerate(C3_SEES):
        np.testing.assert_allclose(variance[o] * 25 * len(seen), 1, rtol=0.35)


def with_float64_params(net):
    nnx.update(net, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), nnx.state(net)))
    return net


def in_pytorch(torch, net, activation, pooling):
    """Our four layers in PyTorch, weights copied: what LeNet and the CIFAR-10 network have in common."""
    padding = "valid" if net.conv1.padding == "VALID" else "same"
    layers = {}
    for name in ("conv1", "conv2"):
        kernel, bias = (np.asarray(p[...]) for p in (getattr(net, name).kernel, getattr(net, name).bias))
        layers[name] = torch.nn.Conv2d(*kernel.shape[2:], 3, padding=padding, dtype=torch.float64)
        layers[name].weight.data, layers[name].bias.data = (
            torch.tensor(kernel.transpose(3, 2, 0, 1)),
            torch.tensor(bias),
        )
    for name in ("dense1", "dense2"):
        kernel, bias = (np.asarray(p[...]) for p in (getattr(net, name).kernel, getattr(net, name).bias))
        layers[name] = torch.nn.Linear(*kernel.shape, dtype=torch.float64)
        layers[name].weight.data, layers[name].bias.data = torch.tensor(kernel.T), torch.tensor(bias)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleDict(layers)

        def forward(self, x):
            x = x.permute(0, 3, 1, 2)
            for name in ("conv1", "conv2"):
                x = pooling(torch.relu(self.layers[name](x)), 2)
            x = x.permute(0, 2, 3, 1).flatten(1)  # our features stand channels last
            return self.layers["dense2"](activation(self.layers["dense1"](x)))

    return Network()


@pytest.mark.parametrize("name", ["LeNet", "CIFAR-10", "CIFAR-10, same"])
def test_logits_and_a_step_of_adam_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    pool = torch.nn.functional.avg_pool2d if name == "LeNet" else torch.nn.functional.max_pool2d
    picture = NETWORKS[name][1]
    labels = np.arange(6) % 10
    with jax.enable_x64(True):
        net = with_float64_params(new(name))
        theirs = in_pytorch(torch, net, torch.sigmoid if name == "LeNet" else torch.relu, pool)
        x = pictures(6, *picture, dtype=jnp.float64)
        logits = theirs(torch.tensor(np.asarray(x)))
        forward = nnx.jit(lambda net: net(x))
        np.testing.assert_allclose(forward(net), logits.detach().numpy(), rtol=1e-9, atol=1e-9)

        adam = torch.optim.Adam(theirs.parameters(), lr=1e-3)
        torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
        adam.step()
        optimizer = nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param)

        @nnx.jit
        def step(net, optimizer):
            optimizer.update(net, nnx.grad(cross_entropy)(net, x, jnp.asarray(labels)))

        with jax.numpy_dtype_promotion("standard"):  # Optax takes a power of its step's number
            step(net, optimizer)
        after = theirs(torch.tensor(np.asarray(x))).detach().numpy()
        assert np.abs(after - logits.detach().numpy()).max() > 1e-2
        np.testing.assert_allclose(forward(net), after, rtol=1e-6, atol=1e-6)


ERRORS = {
    "too small for LeNet": (
        lambda **o: models.LeNet((3, 8, 1), **o),
        r"at least 4x4 with one channel, got \(3, 8, 1\)",
    ),
    "no channels": (
        lambda **o: models.LeNet((8, 8), **o),
        r"picture: expected \(height, width, channels\).*got \(8, 8\)",
    ),
    "no channel": (lambda **o: models.LeNet((8, 8, 0), **o), r"with one channel, got \(8, 8, 0\)"),
    "a number": (lambda **o: models.Cifar10Net(32, **o), "picture: expected .*got 32"),
    "too large for LeNet-5": (
        lambda **o: models.LeNet5((40, 32, 1), **o),
        "picture: .* 32x32.*got 40x32",
    ),
    "too small for CIFAR-10": (lambda **o: models.Cifar10Net((9, 32, 3), **o), r"at least 10x10.*got \(9, 32, 3\)"),
    "padding": (
        lambda **o: models.Cifar10Net(padding="CAUSAL", **o),
        "padding: expected 'VALID' or 'SAME', got 'CAUSAL'",
    ),
}


@pytest.mark.parametrize(("make", "message"), ERRORS.values(), ids=ERRORS)
def test_pictures_that_do_not_fit_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("LeNet", (2, 9, 12, 1)), ("LeNet", (2, 8, 8, 3)), ("LeNet-5", (2, 33, 28, 1)), ("LeNet-5", (28, 28))]
    + [("CIFAR-10", (2, 28, 28, 3)), ("CIFAR-10", (2, 32, 32, 1)), ("CIFAR-10", (3, 32, 32))],
    ids=str,
)
def test_other_pictures_than_those_it_was_made_for_are_an_error(name, shape):
    with pytest.raises(ValueError, match=r"x: expected \(\*batch, .*, got "):
        new(name)(jnp.ones(shape))


@pytest.mark.parametrize("name", ["LeNet", "LeNet-5", "CIFAR-10"])
def test_an_axis_in_the_wrong_place_is_reported(name):
    net, picture = new(name), NETWORKS[name][1]
    if picture[-1] == 1:
        with pytest.raises(ValueError, match=r"channel axis is missing: x\[\.\.\., None\]"):
            net(jnp.ones((2, *picture[:2])))
    with pytest.raises(ValueError, match=r"channels come last: jnp\.moveaxis\(x, -3, -1\)"):
        net(jnp.ones((2, picture[2], *picture[:2])))
