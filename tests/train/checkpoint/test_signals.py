"""A folder of checkpoints while another process trains with it: refused, and free once that process is gone."""

import signal

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxnn import train
from tests.train.children import read_until, start


def test_a_second_signal_ends_at_once_and_only_then_is_the_folder_free(tmp_path):
    state = train.create_state(jnp.ones(2), optax.sgd(0.1), jax.random.key(0))
    resumed = train.Checkpoints(tmp_path, resume=True)
    with start("-m", "tests.train.stopped", str(tmp_path)) as process:
        try:
            read_until(process, "training")
            with pytest.raises(train.checkpoint.CheckpointError, match="another process is training with"):
                train.checkpoint.Saver(resumed)
            process.send_signal(signal.SIGTERM)
            read_until(process, "SIGTERM: saving after the program that runs now, then stopping; once more stops at on")
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait() == -signal.SIGINT
        finally:
            process.kill()
    with train.checkpoint.Saver(resumed) as saver:
        restored, _ = saver.restore(state)
    assert restored.params.tolist() == [0, 0]
