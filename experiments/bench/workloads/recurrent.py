"""LSTM and GRU: forward and training in five shapes (batch, time, features, hidden), and an LSTM on growing lengths."""

from experiments.bench.case import Case, Settings, Side
from experiments.bench.workers import DEVICES

SHAPES = ((32, 100, 128, 256), (1, 100, 128, 256), (64, 28, 28, 128), (8, 1000, 64, 64), (128, 50, 512, 512))
LENGTHS = (16, 64, 256, 1024, 4096)
GATES = {"lstm": 4, "gru": 3}

SIDES = (
    Side("jaxnn, auto", ".jaxnn_recurrent:layer", "jax", {"algorithm": "auto"}),
    Side("jaxnn, scan", ".jaxnn_recurrent:layer", "jax", {"algorithm": "scan"}),
    Side("jaxnn, a device per core", ".jaxnn_recurrent:layer", DEVICES, {"algorithm": "auto"}),
    Side("PyTorch", ".torch_recurrent:layer", "torch"),
    Side("Flax NNX", ".flax_recurrent:layer"),
    Side("Haiku", ".haiku_recurrent:layer"),
    Side("Equinox", ".equinox_recurrent:layer"),
    Side("Keras on TensorFlow", ".keras_recurrent:layer", "keras-tensorflow"),
    Side("Keras on JAX", ".keras_recurrent:layer", "keras-jax"),
)
# Every side trains an LSTM; in the other cases, only the sides that are fast there are measured.
FEWER = tuple(side for side in SIDES if side.library in ("jaxnn", "PyTorch", "Flax NNX", "Haiku"))


def cases(settings: Settings) -> list[Case]:
    """Every layer on every shape, then an LSTM of 64 units on 8 sequences of each length."""
    if settings.quick:
        return [_case(SIDES, kind, *SHAPES[2], train=True) for kind in GATES]
    return [
        *(_case(SIDES, "lstm", *shape, train=True) for shape in SHAPES),
        *(_case(FEWER, "gru", *shape, train=True) for shape in SHAPES),
        *(_case(FEWER, kind, *shape, train=False) for kind in GATES for shape in SHAPES),
        *(_case(FEWER, "lstm", 8, length, 64, 64, train=True) for length in LENGTHS),
    ]


def _case(
    sides: tuple[Side, ...], kind: str, batch: int, time: int, features: int, hidden: int, *, train: bool
) -> Case:
    shape = {"batch": batch, "time": time, "features": features, "hidden": hidden}
    flops = 2.0 * batch * time * GATES[kind] * hidden * (features + hidden) * (3 if train else 1)
    title = f"{kind.upper()} {','.join(map(str, shape.values()))}, {'train' if train else 'forward'}"
    sides = tuple(side for side in sides if side.worker != DEVICES or batch > 1)
    return Case(title, sides, {"kind": kind, **shape, "train": train}, 1, flops, weight=1 + flops / 1e10)
