"""The feed-forward network, and back-propagation by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import models

FEATURES = (5, 7, 6, 3)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def back_propagation(weights, biases, x, labels):
    r"""Loss and gradients of a sigmoid network with softmax cross-entropy, as the textbook derives them.

    Forward, for layers :math:`l = 1 \dots L`: :math:`a_l = h_{l-1} W_l + b_l` and :math:`h_l = \sigma(a_l)`;
    backward, with :math:`\delta_l = \partial L / \partial a_l`:

    - softmax and cross-entropy together give :math:`\delta_L = (\mathrm{softmax}(a_L) - y) / n`,
    - the chain rule gives :math:`\delta_{l-1} = \delta_l W_l^\top \odot \sigma'(a_{l-1})`, where
      :math:`\sigma' = h (1 - h)`,
    - and each layer's weights get :math:`\partial L / \partial W_l = h_{l-1}^\top \delta_l`, its biases the sum of
      :math:`\delta_l` over the batch.
    """
    hidden = [x]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        hidden.append(sigmoid(hidden[-1] @ weight + bias))
    logits = hidden[-1] @ weights[-1] + biases[-1]

    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    one_hot = np.eye(logits.shape[1])[labels]
    loss = -np.log((probabilities * one_hot).sum(1)).mean()

    delta = (probabilities - one_hot) / len(x)
    gradients = []
    for layer in reversed(range(len(weights))):
        gradients.append((hidden[layer].T @ delta, delta.sum(0)))
        delta = delta @ weights[layer].T * hidden[layer] * (1 - hidden[layer])
    return loss, gradients[::-1]


def test_its_gradients_are_those_of_back_propagation_by_hand():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(8, FEATURES[0])), rng.integers(0, FEATURES[-1], 8)
    weights = [rng.normal(size=shape) for shape in itertools.pairwise(FEATURES)]
    biases = [rng.normal(size=n) for n in FEATURES[1:]]
    expected_loss, expected = back_propagation(weights, biases, x, labels)

    with jax.enable_x64(True):
        net = models.MLP(FEATURES, activation=jax.nn.sigmoid, rngs=nnx.Rngs(0))
        for layer, weight, bias in zip(net.layers, weights, biases, strict=True):
            layer.kernel, layer.bias = nnx.Param(jnp.asarray(weight)), nnx.Param(jnp.asarray(bias))

        @nnx.value_and_grad
        def loss_and_gradients(net):
            return optax.softmax_cross_entropy_with_integer_labels(net(jnp.asarray(x)), jnp.asarray(labels)).mean()

        loss, gradients = loss_and_gradients(net)

    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    for layer, (kernel, bias) in enumerate(expected):
        np.testing.assert_allclose(gradients["layers"][layer]["kernel"][...], kernel, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(gradients["layers"][layer]["bias"][...], bias, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("activation", [jax.nn.sigmoid, jax.nn.tanh, jax.nn.relu])
def test_the_last_layer_is_linear_and_the_others_are_not(activation):
    net = models.MLP((4, 5, 3), activation=activation, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 4)), jnp.float32)
    first, last = net.layers
    np.testing.assert_array_equal(net(x), last(activation(first(x))))
    single = models.MLP((4, 3), activation=activation, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(single(x), single.layers[0](x))


def test_parameter_count_and_seed():
    state = nnx.state(models.MLP((64, 100, 10), rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 64 * 100 + 100 + 100 * 10 + 10
    again = nnx.state(models.MLP((64, 100, 10), rngs=nnx.Rngs(0)))
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, state, again)))


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"features: expected those of the input and the output at least, got \(5,\)"):
        models.MLP((5,), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="out_features: expected a whole number of at least 1, got 0"):
        models.MLP((5, 0, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"x.* 5.*\(2, 4\)"):
        models.MLP((5, 3), rngs=nnx.Rngs(0))(jnp.ones((2, 4)))
    with pytest.raises(ValueError, match="activation: expected a function, got 'sigmoid'"):
        models.MLP((5, 3), activation="sigmoid", rngs=nnx.Rngs(0))
