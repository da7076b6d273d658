"""What given kernels see: feature maps of real pictures, same-size and smaller, and what pooling keeps of them.

    python -m experiments.feature_maps
    python -m experiments.feature_maps --picture my_photo.jpg

K1 = [[-1, 0], [0, 1]] answers to change along the diagonal, K2 = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]], Sobel's, to
horizontal edges. Each slides over a grey and a colour version of every picture. Leaves a PNG for each.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command import run
from experiments.spread import run_folder
from jaxnn import functional as F
from jaxnn.train import plots

K1 = jnp.array([[-1.0, 0.0], [0.0, 1.0]])
K2 = jnp.array([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]])


@dataclasses.dataclass
class Options:
    """What to look at."""

    picture: Path | None = None
    """A picture file; without one, the photographs that come inside scikit-learn."""
    pool: int = 4
    """Side of the pooling windows."""
    run: Path = Path("runs/feature_maps")
    """The run folder; a number is added where it exists, nothing is overwritten."""


def main(options: Options) -> None:
    """Slides both kernels over each picture, pools the result, and saves what they saw."""
    if options.pool < 1:
        raise ValueError(f"--pool must be at least 1, not {options.pool}")
    pictures = photographs(options.picture)
    smallest = min(side for picture in pictures.values() for side in picture.shape[:2])
    if smallest < max(3, options.pool):
        raise ValueError(
            f"the picture's shorter side is {smallest}: K2 needs 3 pixels, --pool {options.pool} needs {options.pool}"
        )
    folder = run_folder(options.run, dataclasses.asdict(options))
    for name, colour in pictures.items():
        maps = look(colour, options.pool)
        target = folder / f"{name}.png"
        title = f"{name}, {colour.shape[1]}×{colour.shape[0]}"
        plots.images(list(maps.values()), target, list(maps), columns=3, title=title, side=3.0)
        print(f"{target}: " + ", ".join(f"{title} {tuple(np.shape(m)[:2])}" for title, m in maps.items()))


def look(colour: jax.Array, pool: int) -> dict[str, jax.Array]:
    """A picture `(height, width, 3)` of 0 to 1 and everything that is made of it, by title."""
    grey = jnp.mean(colour, axis=-1, keepdims=True)
    edges = F.feature_maps(grey, K2, padding="SAME")
    strength = jnp.abs(edges)
    return {
        "picture": colour,
        "K1 (2×2) on grey": F.feature_maps(grey, K1),
        "K2 (3×3) on grey": F.feature_maps(grey, K2),
        "grey": grey,
        "K1 on colour": F.feature_maps(colour, K1),
        "K2 on colour": F.feature_maps(colour, K2),
        "K2, same size": edges,
        f"|K2|, max pool {pool}": F.max_pool(strength, pool),
        f"|K2|, mean pool {pool}": F.avg_pool(strength, pool),
    }


def photographs(path: Path | None) -> dict[str, jax.Array]:
    """Colour pictures `(height, width, 3)` of 0 to 1, by name."""
    if path is None:
        from sklearn.datasets import load_sample_images

        samples = load_sample_images()
        names = [Path(name).stem for name in samples.filenames]
        return {name: jnp.asarray(p, jnp.float32) / 255 for name, p in zip(names, samples.images, strict=True)}
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError(f"--picture: {path} is not a picture file that can be read (PNG, JPEG and the like)") from None
    return {path.stem: jnp.asarray(pixels, jnp.float32) / 255}


if __name__ == "__main__":
    run(main, Options, __doc__)
