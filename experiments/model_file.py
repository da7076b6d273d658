"""A trained model as one file, `model.npz`: its weights by name, and what is needed to build it anew."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.data.text import Vocabulary
from jaxnn.files import replacing
from jaxnn.models import LanguageModel

Model = TypeVar("Model", bound=nnx.Module)


def save(path: Path, model: LanguageModel, vocabulary: Vocabulary, sizes: dict[str, Any]) -> None:
    """Writes a language model.

    Args:
      path: `model.npz` in a run folder.
      model: the model.
      vocabulary: what its tokens mean.
      sizes: what `LanguageModel` was built with, apart from the vocabulary's size.
    """
    write(path, model, {"characters": vocabulary.characters, "sizes": sizes})


def load(path: Path) -> tuple[LanguageModel, Vocabulary]:
    """Reads a file that `save` wrote.

    Returns:
      The model, in evaluation mode, and its vocabulary.

    Raises:
      ValueError: there is no such file, or it is damaged.
    """

    def build(about: dict[str, Any]) -> LanguageModel:
        return LanguageModel(len(Vocabulary(about["characters"])), **about["sizes"], rngs=nnx.Rngs(0))

    model, about = read(path, build, "char_lm")
    return model, Vocabulary(about["characters"])


def write(path: Path, model: nnx.Module, about: dict[str, Any]) -> None:
    """Writes a model's weights beside, and then renames the file.

    Args:
      path: a file that ends with .npz.
      model: the model.
      about: what is needed to build it anew, as JSON knows it.
    """
    arrays: dict[str, Any] = {name: np.asarray(array) for name, array in _named(nnx.state(model, nnx.Param)).items()}
    with replacing(path) as beside:
        np.savez(beside, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)


def read(path: Path, build: Callable[[dict[str, Any]], Model], maker: str) -> tuple[Model, dict[str, Any]]:
    """Reads a file that `write` wrote; nothing in it is ever run as code.

    Args:
      path: the file.
      build: makes the model, with any weights, from what was written about it.
      maker: the experiment that writes such models, for messages.

    Returns:
      The model, in evaluation mode, and what was written about it.

    Raises:
      ValueError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise ValueError(f"there is no model {path}; train one first, and name its run folder with --run")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            arrays = {name: file[name] for name in file.files if name != "about"}
        model = build(about)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or no model that {maker} saved: {error}") from error
    params = nnx.state(model, nnx.Param)
    expected, got = ({name: a.shape for name, a in arrays.items()} for arrays in (_named(params), arrays))
    if expected != got:
        raise ValueError(f"{path} is damaged: it should hold the arrays {expected}, but holds {got}")
    nnx.update(model, jax.tree_util.tree_map_with_path(lambda at, _: jnp.asarray(arrays[_name(at)]), params))
    model.eval()
    return model, about


def _named(params: Any) -> dict[str, Any]:
    return {_name(at): array for at, array in jax.tree.leaves_with_path(params)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
