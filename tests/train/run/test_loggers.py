"""The sinks of docs/sinks.md for loggers of experiments, against the real libraries, without a network."""

import re
import sqlite3
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxnn import train
from tests.train.toys import quadratic

PAGE = Path(__file__).parents[3] / "docs" / "sinks.md"


def sink(name, *args, **options):
    """A sink that the page defines."""
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if name in block
    )
    found = {}
    exec(code, found)
    return found[name](*args, **options)


def fit(logger):
    state = train.create_state(jnp.zeros(3), optax.sgd(0.05), jax.random.key(0))
    data = jnp.eye(3), jnp.ones(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own imports
        return train.fit(state, data, quadratic, epochs=3, batch_size=3, progress=False, sinks=[logger])[1]


def test_weights_and_biases(monkeypatch, tmp_path):
    pytest.importorskip("wandb", exc_type=ImportError)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    fit(sink("Wandb", "toy", mode="offline"))
    (path,) = tmp_path.rglob("*.wandb")
    assert path.read_bytes().count(b"train_loss") >= 3


def test_mlflow(monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow", exc_type=ImportError)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    history = fit(sink("Mlflow", "toy"))
    client = mlflow.tracking.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    logged = [metric.value for metric in client.get_metric_history(run.info.run_id, "train_loss")]
    assert logged == pytest.approx([record["train_loss"] for record in history])
    assert run.info.status == "FINISHED"


def test_trackio(monkeypatch, tmp_path):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio", exc_type=ImportError)
    fit(sink("Trackio", "toy"))
    (path,) = tmp_path.rglob("toy*.db")
    with sqlite3.connect(path) as database:
        assert database.execute("select count(*) from metrics").fetchone() == (3,)
