"""What test_interrupt stops: saves a checkpoint, says so, and does not look whether it was asked. Not a test itself.

python -m tests.train.stopped FOLDER
"""

import sys
import time

import jax
import jax.numpy as jnp
import optax

from jaxnn import train


def main(folder: str) -> None:
    state = train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0))
    with train.checkpoint.Saver(train.Checkpoints(folder)) as saver:
        saver.save(state, train.checkpoint.Position(), wait=True)
        print("training", flush=True)
        time.sleep(600)  # a long program; XLA runs some in the main thread, where Python notices no signals meanwhile


if __name__ == "__main__":
    main(*sys.argv[1:])
