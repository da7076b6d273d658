"""A trained language model as one file, `model.safetensors`: its weights, and what is needed to build it anew."""

from pathlib import Path
from typing import Any

from flax import nnx

from experiments.data.text import Vocabulary
from jaxnn import interop
from jaxnn.models import LanguageModel


def save(path: Path, model: LanguageModel, vocabulary: Vocabulary, sizes: dict[str, Any]) -> None:
    """Writes a model, what its tokens mean, and the sizes that `LanguageModel` was built with."""
    interop.save_weights(path, model, about={"characters": vocabulary.characters, "sizes": sizes})


def load(path: Path) -> tuple[LanguageModel, Vocabulary]:
    """Reads a file that `save` wrote: the model, in evaluation mode, and its vocabulary.

    Raises:
        ValueError: If there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise ValueError(f"there is no model {path}; train one first, and name its run folder with --run")
    try:
        about = interop.load_about(path)
        vocabulary = Vocabulary(about["characters"])
        model = LanguageModel(len(vocabulary), **about["sizes"], rngs=nnx.Rngs(0))
        model = interop.load_weights(path, model)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or no model that char_lm saved: {error}") from error
    model.eval()
    return model, vocabulary
