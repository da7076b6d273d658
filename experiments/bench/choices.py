"""Measures every formulation of a convolution on CPU, and prints where another choice is faster.

    python -m experiments.bench.choices                       # about 10 minutes on two cores
    python -m experiments.bench.choices --only 3x3 --seconds 0.5

It times each pass of each layer in every formulation and in plain `jax.lax`: called from Python and inside a compiled
loop, with XLA's default options and with those of `jaxnn.train`. A loop with the options of `jaxnn.train` counts as a
training step. The last table has the rows in which the formulation that `jaxnn.kernels.choices` chooses takes more than
1.10 times as long as the fastest formulation, or more than 1.05 times as long as `jax.lax`.
"""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench import machine
from experiments.bench.report import table
from experiments.bench.timing import in_turn, summary
from experiments.bench.workloads.layers import LAYERS, Layer
from jaxnn import train
from jaxnn.cli import Positive, check, expect, run
from jaxnn.kernels import conv_cpu, settings
from jaxnn.kernels.choices import Formulation, Pass, Work, choose
from jaxnn.kernels.geometry import ConvGeometry, lax_conv

FORMULATIONS: tuple[Formulation, ...] = ("canonical", "taps", "elementwise")
LAX = "jax.lax"
WRONG, WRONG_BESIDE_LAX = 1.10, 1.05


@dataclasses.dataclass
class Options:
    """The layers and the time."""

    only: str = ""
    """Measure only the layers whose names contain this."""
    seconds: Positive = 1.0
    """Seconds for each comparison; three rounds may take longer."""


def main(options: Options) -> None:
    """Prints a row for each comparison, and at the end the rows in which another choice is faster."""
    check(options)
    layers = {name: layer for name, layer in LAYERS.items() if layer.kind == "conv" and options.only in name}
    expect("only", options.only, bool(layers), f"a part of a name of {', '.join(LAYERS)}")
    print(f"{machine.processor()}, JAX {jax.__version__}; milliseconds of a call\n", flush=True)
    header = ["layer", "pass", "options", "where", *FORMULATIONS, LAX, "chosen", "/ best", f"/ {LAX}"]
    wrong = []
    kinds: tuple[Pass, ...] = ("conv", "conv_dx", "conv_dw")
    for (name, layer), kind, eigen, looped in itertools.product(layers.items(), kinds, (False, True), (False, True)):
        if kind == "conv_dx" and layer.first:
            continue
        row = [name, kind, "train" if eigen else "default", "loop" if looped else "call"]
        row += compare(layer, kind, eigen, looped, options.seconds)
        print(" | ".join(row), flush=True)
        if float(row[-2]) > WRONG or float(row[-1]) > WRONG_BESIDE_LAX:
            wrong.append(row)
    print("\n" + (table(header, wrong) if wrong else "every choice is right on this machine"))


def compare(layer: Layer, kind: Pass, eigen: bool, looped: bool, seconds: float) -> list[str]:
    """Times of all formulations, the chosen one, and its ratios to the best and to `jax.lax`."""
    n = len(layer.padding)
    geometry = ConvGeometry((layer.stride,) * n, layer.padding, (1,) * n, layer.groups)
    *window, inputs, outputs = layer.window
    places = geometry.window(tuple(window)).out(layer.x[1:-1])
    work = Work(
        kind=kind,
        dtype="float32",
        batch=layer.x[0],
        spatial=layer.x[1:-1],
        places=places,
        window=tuple(window),
        inputs=inputs,
        outputs=outputs,
        stride=geometry.stride,
        groups=layer.groups,
        tiles=geometry.tiles(tuple(window)),
        differentiated=eigen and looped,  # as in a training step
        eigen=eigen,
    )
    shapes = {"x": layer.x, "k": layer.window, "g": (layer.x[0], *places, outputs)}
    operands = {"conv": "xk", "conv_dx": "gk", "conv_dw": "xg"}[kind]
    keys = jax.random.split(jax.random.key(0), 2)
    arrays = [jax.random.normal(key, (2, *shapes[o])) for key, o in zip(keys, operands, strict=True)]
    compiler_options = train.step.compiler_options() if eigen else {}
    works: dict[str, Callable[[], Any]] = {}
    for how in FORMULATIONS:
        if how == "elementwise" and not work.elementwise:
            continue
        formulated = _formulated(how, kind, layer, geometry, eigen)
        works[how] = _timed(formulated, arrays, looped, compiler_options)
    works[LAX] = _timed(_plain(kind, layer, geometry), arrays, looped, compiler_options)
    # A work calls twice.
    times = {name: summary(rounds, units=2).median for name, rounds in in_turn(works, seconds).items()}
    chosen = choose(work)
    best = times[chosen] / min(times.values())
    shown = [f"{times[name] * 1e3:.3g}" if name in times else "-" for name in (*FORMULATIONS, LAX)]
    return [*shown, chosen, f"{best:.2f}", f"{times[chosen] / times[LAX]:.2f}"]


def _formulated(
    how: Formulation, kind: Pass, layer: Layer, geometry: ConvGeometry, eigen: bool
) -> Callable[..., jax.Array]:
    def formulated(a: jax.Array, b: jax.Array) -> jax.Array:
        with settings.eigen_context(eigen):
            if kind == "conv":
                return conv_cpu.compute_conv(how, a, b, geometry)
            if kind == "conv_dx":
                return conv_cpu.compute_conv_dx(how, a, b, layer.x[1:-1], geometry)
            return conv_cpu.compute_conv_dw(how, a, b, layer.window[:-2], geometry)

    return formulated


def _plain(kind: Pass, layer: Layer, geometry: ConvGeometry) -> Callable[..., jax.Array]:
    if kind == "conv":
        return lambda x, k: lax_conv(x, k, geometry)
    if kind == "conv_dx":
        x = jax.ShapeDtypeStruct(layer.x, jnp.float32)
        return lambda g, k: jax.linear_transpose(lambda x: lax_conv(x, k, geometry), x)(g)[0]
    kernel = jax.ShapeDtypeStruct(layer.window, jnp.float32)
    return lambda x, g: jax.linear_transpose(lambda k: lax_conv(x, k, geometry), kernel)(g)[0]


def _timed(
    function: Callable[..., jax.Array], arrays: list[jax.Array], looped: bool, compiler_options: dict[str, Any]
) -> Callable[[], Any]:
    """A work that calls the function on two pairs of operands."""
    compiled = partial(jax.jit, compiler_options=compiler_options)
    if not looped:
        one = compiled(function)
        pairs = list(zip(*arrays, strict=True))
        return lambda: [jax.block_until_ready(one(*pair)) for pair in pairs]
    start = jax.eval_shape(function, *(array[0] for array in arrays))

    def loop(*arrays: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda _, pair: (function(*pair), None), jnp.zeros(start.shape, start.dtype), arrays)[0]

    every = compiled(loop)
    return lambda: jax.block_until_ready(every(*arrays))


if __name__ == "__main__":
    run(main, Options, __doc__)
