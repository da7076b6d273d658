"""Real data sets, read, checked and (where needed) downloaded, as NumPy arrays on the host.

Pictures are `(N, H, W, C)` uint8, texts are strings, labels `(N,)` int32; `jax.device_put` puts arrays on the device.
"""

from typing import TYPE_CHECKING, Any

from jaxnn.data.cache import cache_dir
from jaxnn.data.coco import Boxed, BoxedPictures, load_coco
from jaxnn.data.dataset import Dataset, Examples, channel_statistics, check_dataset, split
from jaxnn.data.digits import load_digits
from jaxnn.data.download import DownloadError, download
from jaxnn.data.espeak import Spoken, speak
from jaxnn.data.idx import load_idx, read_idx
from jaxnn.data.languages import load_languages
from jaxnn.data.loading import load
from jaxnn.data.picture import read_picture
from jaxnn.data.pictures import load_pictures
from jaxnn.data.series import Series, load_series
from jaxnn.data.series_file import read_series
from jaxnn.data.texts import TextDataset, Texts, load_texts
from jaxnn.data.vocabulary import Vocabulary
from jaxnn.data.wav import Recordings, load_recordings, read_wav, split_speakers

if TYPE_CHECKING:
    from jaxnn.data.stream import ArrayFiles, Source, Stream, WorkerDiedError

__all__ = [
    "ArrayFiles",
    "Boxed",
    "BoxedPictures",
    "Dataset",
    "DownloadError",
    "Examples",
    "Recordings",
    "Series",
    "Source",
    "Spoken",
    "Stream",
    "TextDataset",
    "Texts",
    "Vocabulary",
    "WorkerDiedError",
    "cache_dir",
    "channel_statistics",
    "check_dataset",
    "download",
    "load",
    "load_coco",
    "load_digits",
    "load_idx",
    "load_languages",
    "load_pictures",
    "load_recordings",
    "load_series",
    "load_texts",
    "read_idx",
    "read_picture",
    "read_series",
    "read_wav",
    "speak",
    "split",
    "split_speakers",
]


def __getattr__(name: str) -> Any:
    # Streams need JAX, which takes a second to import; reading a data set does not.
    if name in ("ArrayFiles", "Source", "Stream", "WorkerDiedError"):
        from jaxnn.data import stream

        return getattr(stream, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
