"""A trained language model as one file, `model.npz`: its weights by name, its sizes and its vocabulary."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.text import Vocabulary
from jaxnn.models import LanguageModel
from jaxnn.train.runfolder import replacing


def save(path: Path, model: LanguageModel, vocabulary: Vocabulary, sizes: dict[str, Any]) -> None:
    """Writes the file beside and then renames it.

    Args:
      path: `model.npz` in a run folder.
      model: the model.
      vocabulary: what its tokens mean.
      sizes: what `LanguageModel` was built with, apart from the vocabulary's size.
    """
    about = json.dumps({"characters": vocabulary.characters, "sizes": sizes}).encode()
    arrays: dict[str, Any] = {name: np.asarray(array) for name, array in _named(nnx.state(model, nnx.Param)).items()}
    with replacing(path) as beside:
        np.savez(beside, about=np.frombuffer(about, np.uint8), **arrays)


def load(path: Path) -> tuple[LanguageModel, Vocabulary]:
    """Reads a file that `save` wrote; nothing in it is ever run as code.

    Returns:
      The model, in evaluation mode, and its vocabulary.

    Raises:
      ValueError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise ValueError(f"there is no model {path}; train one first, and name its run folder with --run")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            arrays = {name: file[name] for name in file.files if name != "about"}
        vocabulary = Vocabulary(about["characters"])
        model = LanguageModel(len(vocabulary), **about["sizes"], rngs=nnx.Rngs(0))
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or no model that char_lm saved: {error}") from error
    params = nnx.state(model, nnx.Param)
    expected, got = ({name: a.shape for name, a in arrays.items()} for arrays in (_named(params), arrays))
    if expected != got:
        raise ValueError(f"{path} is damaged: it should hold the arrays {expected}, but holds {got}")
    nnx.update(model, jax.tree_util.tree_map_with_path(lambda at, _: jnp.asarray(arrays[_name(at)]), params))
    model.eval()
    return model, vocabulary


def _named(params: Any) -> dict[str, Any]:
    return {_name(at): array for at, array in jax.tree.leaves_with_path(params)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
