"""A model as a folder of the Hub's layout, read by `safetensors` alone and by this library."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open

from jaxnn import interop, models

CONFIG = {"features": [4, 8, 3]}


def build(config):
    return models.MLP(config["features"], rngs=nnx.Rngs(1))


def test_a_folder_has_the_layout_of_the_hub():
    saved = models.MLP(CONFIG["features"], rngs=nnx.Rngs(0))
    interop.save_folder("model", saved, CONFIG, card="---\nlicense: mit\n---\n# Ein größeres Modell\n")
    assert sorted(path.name for path in Path("model").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert json.loads(Path("model/config.json").read_text("utf-8")) == CONFIG
    assert Path("model/README.md").read_text("utf-8").endswith("größeres Modell\n")
    with safe_open("model/model.safetensors", "np") as file:
        assert file.metadata()["format"] == "flax"
        assert sorted(file.keys()) == [f"layers/{i}/{name}" for i in (0, 1) for name in ("bias", "kernel")]
    loaded = interop.load_folder("model", build)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(loaded, nnx.Param), nnx.state(saved, nnx.Param))


def test_the_hub_s_own_client_uploads_and_downloads_the_folder():
    hub = pytest.importorskip("huggingface_hub", reason="its client reads the folder; install huggingface_hub")
    saved = build(CONFIG)
    interop.save_folder("model", saved, CONFIG)
    commit, repository = "0" * 40, Path("cache/models--you--mlp")
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    # As a download leaves it: each file is kept once by its hash, and a snapshot links to it.
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for path in Path("model").iterdir():
        upload = hub.CommitOperationAdd(path.name, path).upload_info
        blob = repository / "blobs" / upload.sha256.hex()
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    downloaded = hub.snapshot_download("you/mlp", cache_dir="cache", local_files_only=True)
    loaded = interop.load_folder(downloaded, lambda config: models.MLP(config["features"], rngs=nnx.Rngs(2)))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(loaded, nnx.Param), nnx.state(saved, nnx.Param))


def test_other_files_stay_and_what_is_wrong_is_named():
    Path("model").mkdir()
    Path("model/.gitattributes").write_text("*.safetensors filter=lfs\n")
    with pytest.raises(ValueError, match="config: expected values that JSON can hold, got Object of type set"):
        interop.save_folder("model", build(CONFIG), {"features": {1, 2}})
    assert len(list(Path("model").iterdir())) == 1
    interop.save_folder("model", build(CONFIG), CONFIG)
    assert Path("model/.gitattributes").exists()
    for text in ("[1]", "{"):
        Path("model/config.json").write_text(text)
        with pytest.raises(ValueError, match=r"folder: expected a config.json that save_folder wrote, got"):
            interop.load_folder("model", build)
    Path("model/config.json").write_text(json.dumps({"features": [4, 3]}))
    with pytest.raises(ValueError, match=r"layers/0/bias float32\[3\], not float32\[8\]; .* build it as"):
        interop.load_folder("model", build)
