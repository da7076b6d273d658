"""Signals that come late, and a folder of checkpoints while another process trains with it."""

import signal

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxnn import train
from tests.train.children import read_until, start
from tests.train.toys import quadratic


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


def _fit(folder, sinks=()):
    state = train.create_state(jnp.ones(2), optax.sgd(0.1), jax.random.key(0))
    saved = train.Checkpoints(folder, resume=True, every=None)
    data = jnp.eye(2), jnp.ones(2)
    return train.fit(state, data, quadratic, epochs=1, batch_size=2, progress=False, sinks=sinks, checkpoints=saved)


def test_a_signal_while_the_last_checkpoint_is_written_stops(tmp_path, monkeypatch):
    save = train.checkpoint.Saver.save

    def interrupted(saver, state, position, *, wait=False):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGTERM)
        return save(saver, state, position, wait=wait)

    monkeypatch.setattr(train.checkpoint.Saver, "save", interrupted)
    with pytest.raises(train.checkpoint.Interrupted, match="SIGTERM stopped training after step 1, which is saved"):
        _fit(tmp_path)
    assert int(_fit(tmp_path)[0].step) == 1


def test_a_signal_after_that_is_not_lost(tmp_path):
    class Drawing:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            signal.raise_signal(signal.SIGINT)

        def __call__(self, record, state):
            """Draws at the end alone."""

    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path, [Drawing()])
    assert int(_fit(tmp_path)[0].step) == 1


def test_a_handler_that_python_could_not_put_back_stays(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signal, "getsignal", lambda which: None)  # as where R runs Python
    monkeypatch.setattr(signal, "signal", lambda which, handler: pytest.fail("a handler was set"))
    assert int(_fit(tmp_path)[0].step) == 1
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGTERM) == before
