"""What test_interrupt stops: saves a checkpoint, says so, and runs one program that does not end. Not a test itself.

python -m tests.train.stopped FOLDER
"""

import sys

import jax
import jax.numpy as jnp
import optax

from jaxnn import train
from jaxnn.train import interrupt


def main(folder: str) -> None:
    state = train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0))
    with train.Saver(train.Checkpoints(folder)) as saver:
        saver.save(state, train.Position(), wait=True)
        endless = jax.jit(lambda x: jax.lax.while_loop(lambda x: x >= 0, lambda x: (x + 1) % 1000, x))
        print("training", flush=True)
        interrupt.fetch(endless(jnp.int32(0)))


if __name__ == "__main__":
    main(*sys.argv[1:])
