"""A model as a folder that the Hugging Face Hub takes: `config.json`, `model.safetensors`, and a model card."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from jaxnn.files import replacing
from jaxnn.files.tensors import as_json
from jaxnn.interop.weights import load_weights, save_weights

T = TypeVar("T")

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def save_folder(
    folder: str | os.PathLike[str], model: Any, config: Mapping[str, Any], *, card: str | None = None
) -> None:
    """Writes a model as a folder in the layout that `huggingface_hub` uploads and downloads.

    `huggingface_hub.upload_folder(folder_path=..., repo_id=...)` publishes it, and `load_folder` reads what
    `huggingface_hub.snapshot_download` returns. Each file is replaced atomically.

    Args:
        folder: The folder, created if it does not exist; other files in it are kept.
        model: A module or a pytree of arrays, as in `save_weights`.
        config: Whatever is needed to build the model again, values that JSON can hold.
        card: The text of the model card in Markdown, or None.

    Raises:
        ValueError: If the model holds no weights, or one that the format cannot hold, or JSON cannot hold `config`.
        OSError: If a file cannot be written.

    Example:
        >>> from flax import nnx
        >>> from jaxnn import interop, models
        >>> config = {"features": [4, 8, 3]}
        >>> interop.save_folder("mlp", models.MLP(**config, rngs=nnx.Rngs(0)), config)
        >>> model = interop.load_folder("mlp", lambda config: models.MLP(**config, rngs=nnx.Rngs(1)))
        >>> model.layers[0].kernel.shape
        (4, 8)
    """
    text = as_json("config", dict(config), indent=2) + "\n"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / WEIGHTS, model)
    for name, content in ((CONFIG, text), (CARD, card)):
        if content is not None:
            with replacing(folder / name) as beside:
                beside.write_text(content, "utf-8")


def load_folder(folder: str | os.PathLike[str], build: Callable[[dict[str, Any]], T]) -> T:
    """Reads a folder that `save_folder` wrote, for example a snapshot of `huggingface_hub`.

    Args:
        folder: The folder.
        build: Function from the configuration to the model, or to a pytree of its structure; its weights are replaced.

    Returns:
        The model with the folder's weights.

    Raises:
        ValueError: If a file is damaged, or the weights are not those of the model.
        OSError: If a file cannot be read.
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"config: expected a dictionary, got a {type(config).__name__}")
    except ValueError as error:
        raise ValueError(
            f"folder: expected a {CONFIG} that save_folder wrote, got {path} ({error}); save the model again."
        ) from error
    return load_weights(Path(folder) / WEIGHTS, build(config))
