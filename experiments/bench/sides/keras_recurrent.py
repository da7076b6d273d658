"""Recurrent layers in Keras 3, compiled by the backend in the worker's environment."""

from typing import Any

import keras
import numpy as np

from experiments.bench.case import Work


def layer(kind: str, batch: int, time: int, features: int, hidden: int, train: bool) -> Work:
    """Outputs over whole sequences; with `train` all gradients too."""
    net = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[kind](hidden, return_sequences=True)
    net.build((batch, time, features))
    return {"tensorflow": _tensorflow, "jax": _jax}[keras.backend.backend()](
        net, (batch, time, features), hidden, train
    )


def _tensorflow(net: Any, shape: tuple[int, int, int], hidden: int, train: bool) -> Work:
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x = tf.constant(rng.standard_normal(shape, np.float32))
    cotangent = tf.constant(rng.standard_normal((*shape[:2], hidden), np.float32))
    weights = [weight.value for weight in net.trainable_variables]

    def gradients() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = net(x, training=True)
        return y, tape.gradient(y, [x, *weights], cotangent)

    run = tf.function(gradients if train else lambda: net(x))
    return lambda: tf.nest.map_structure(lambda each: each.numpy(), run())


def _jax(net: Any, shape: tuple[int, int, int], hidden: int, train: bool) -> Work:
    from experiments.bench.sides.jax_sequences import work_of

    others = [variable.value for variable in net.non_trainable_variables]
    params = [variable.value for variable in net.trainable_variables]
    return work_of(lambda params, x: net.stateless_call(params, others, x)[0], params, shape, train)
