"""Feature maps of given kernels on real pictures, of the same size and smaller, and their pooled maps.

    python -m experiments.feature_maps
    python -m experiments.feature_maps --picture my_photo.jpg

K1 = [[-1, 0], [0, 1]] responds to changes along the diagonal; K2 = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]], Sobel's
kernel, to horizontal edges. Both are applied to a grey and a colour version of every picture. Writes a PNG for each.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxnn import cli, data, plots
from jaxnn import functional as F

K1 = jnp.array([[-1.0, 0.0], [0.0, 1.0]])
K2 = jnp.array([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]])

LARGEST = 2**25
"""Most pixels of a picture: its maps take hundreds of bytes per pixel."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the pictures."""

    picture: Path | None = None
    """A picture file; without one, the photographs that come inside scikit-learn."""
    pool: cli.Count = 4
    """Side of the pooling windows."""
    run: Path = Path("runs/feature_maps")
    """The run folder; if it exists, a number is added, and nothing is overwritten."""


def main(options: Options) -> None:
    """Applies both kernels to each picture, pools the result, and draws the maps."""
    cli.check(options)
    pictures = photographs(options.picture)
    side = min(side for picture in pictures.values() for side in picture.shape[:2])
    cli.expect("picture", side, side >= 3, "at least 3 pixels on each side, which K2 needs")
    cli.expect("pool", options.pool, options.pool <= side, f"at most the picture's shorter side, {side}")
    folder = cli.folder_of(options)
    for name, colour in pictures.items():
        maps = look(colour, options.pool)
        target = folder / f"{name}.png"
        height, width, _ = colour.shape
        title = f"{name}, {width}×{height}; each map from its least value, black, to its largest, white"
        plots.images(list(maps.values()), target, list(maps), columns=3, title=title, side=3.0)
        print(f"{target}: " + ", ".join(f"{title} {each.shape[:2]}" for title, each in maps.items()))


def look(colour: jax.Array, pool: int) -> dict[str, jax.Array]:
    """Returns a picture `(height, width, 3)` of 0 to 1 and all its maps, by title."""
    grey = jnp.mean(colour, axis=-1, keepdims=True)
    edges = F.feature_maps(grey, K2, padding="SAME")
    return {
        "picture": colour,
        "K1 (2×2) on grey": F.feature_maps(grey, K1),
        "K2 (3×3) on grey": F.feature_maps(grey, K2),
        "grey": grey,
        "K1 on colour": F.feature_maps(colour, K1),
        "K2 on colour": F.feature_maps(colour, K2),
        "K2, same size": edges,
        f"|K2|, max pool {pool}": F.max_pool(jnp.abs(edges), pool),
        f"|K2|, mean pool {pool}": F.avg_pool(jnp.abs(edges), pool),
    }


def photographs(path: Path | None) -> dict[str, jax.Array]:
    if path is None:
        from sklearn.datasets import load_sample_images

        samples = load_sample_images()
        pixels = {Path(name).stem: image for name, image in zip(samples.filenames, samples.images, strict=True)}
    else:
        try:
            pixels = {path.stem: data.read_picture(path, most=LARGEST)}
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(f"--picture: {error}") from None
    return {name: jnp.asarray(image, jnp.float32) / 255 for name, image in pixels.items()}


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
