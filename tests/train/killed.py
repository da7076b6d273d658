"""What the kill test runs: trains a small network with checkpoints, and writes its final parameters."""

import sys

import jax
import numpy as np
import optax

from jaxnn import train
from tests.train.toys import ConvNet, pictures


def main(folder: str, out: str) -> None:
    state = train.create_state(ConvNet(), optax.adam(1e-2), jax.random.key(0))
    state, history = train.fit(
        state,
        pictures(203),
        train.losses.classification(),
        test_data=pictures(20, seed=1),
        epochs=12,
        batch_size=8,
        chunk=9,
        preprocess=train.image_preprocess(augmentation=train.augment.random_flip),
        run=train.RunFolder(folder),
        checkpoints=train.Checkpoints(f"{folder}/checkpoints", resume=True, seconds=0, best="test_loss"),
    )
    assert [record["epoch"] for record in history] == list(range(1, 13))
    np.savez(out, *(np.asarray(x) for x in jax.tree.leaves((state.params, state.opt_state, state.variables["norm"]))))


if __name__ == "__main__":
    main(*sys.argv[1:])
