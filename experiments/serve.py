"""Serves an exported program without this package: classes of pictures, generated characters, outputs for a batch.

    python -m experiments.serve runs/lenet5/model.jaxprogram
    python -m experiments.serve runs/lenet5/model.jaxprogram --picture digit.png
    python -m experiments.serve runs/char_lm/model.jaxprogram --characters "The " --length 200
    python -m experiments.serve runs/lenet5/model.jaxprogram --batch pictures.npy --out logits.npy

This file and a `.jaxprogram` are enough on another machine, with JAX, flatbuffers, and Pillow for pictures. Without an
option it prints what the program takes and returns. Serve only programs that you trust: JAX runs what they contain.
"""

import argparse
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

NEEDED = {"picture": ("invert",), "characters": ("length", "temperature", "seed"), "batch": ("out",)}
"""Options, and those that say how they are to be served."""


class Program(NamedTuple):
    """An exported program: what its `program.json` says, its compiled functions, and the first argument of `call`."""

    contents: dict[str, Any]
    functions: dict[str, Callable[..., Any]]
    example: Any


def load(path: Path) -> Program:
    """Reads a program; raises a ValueError where the file is none."""
    from jax import export

    try:
        with zipfile.ZipFile(path) as file:
            contents = json.loads(file.read("program.json"))
            exported = {name: export.deserialize(bytearray(file.read(name))) for name in contents["functions"]}
        compiled: dict[str, Any] = {name: jax.jit(function.call) for name, function in exported.items()}
        return Program(contents, compiled, exported["call"].in_avals[0])
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or no exported program: {error}") from error


def read_picture(path: Path, shape: tuple[int, int, int], invert: bool) -> np.ndarray:
    """A picture file in the size and the number of channels of the network, uint8 `(height, width, channels)`."""
    from PIL import Image, ImageOps

    height, width, channels = shape
    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.mode.startswith("I;16"):  # Pillow itself would make all but the darkest white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    picture = picture.convert("L" if channels == 1 else "RGB")
    picture = ImageOps.fit(picture, (width, height))  # keeps proportions: cuts off at both ends
    pixels = np.asarray(picture, np.uint8).reshape(shape)
    return 255 - pixels if invert else pixels


def classify(program: Program, paths: list[Path], invert: bool) -> Iterator[str]:
    """A line for each picture: the most likely classes with their probabilities."""
    _, *shape = program.example.shape
    if len(shape) != 3 or not all(isinstance(size, int) for size in shape):
        raise ValueError(f"--picture: expected a program for pictures of one size, got {program.example.shape}")
    pictures = np.stack([read_picture(path, tuple(shape), invert) for path in paths])
    rows = np.asarray(jax.nn.softmax(program.functions["call"](pictures)))
    classes = program.contents["about"].get("classes") or range(rows.shape[-1])
    for path, row in zip(paths, rows, strict=True):
        yield f"{path}: " + ", ".join(f"{classes[label]} {row[label]:.1%}" for label in np.argsort(-row)[:3])


def write_on(program: Program, beginning: Iterable[str], length: int, temperature: float, seed: int) -> Iterator[str]:
    """Reads characters one by one, then yields sampled ones, each as soon as it is drawn."""
    characters = program.contents["about"].get("characters")
    if not temperature > 0:
        raise ValueError(f"--temperature: expected a positive number, got {temperature}")
    if length < 0:
        raise ValueError(f"--length: expected a number that is not negative, got {length}")
    if "step" not in program.functions or characters is None:
        raise ValueError("--characters: expected a program that reads characters, got another; char_lm leaves one.")
    tokens = {character: token for token, character in enumerate(characters)}
    state, logits = program.functions["start"](np.zeros(1, np.int32)), None
    for character in beginning:
        if character not in tokens:
            raise ValueError(f"--characters: expected characters of {characters!r}, got {character!r}")
        logits, state = program.functions["step"](state, np.array([tokens[character]], np.int32))
    if logits is None:
        raise ValueError("--characters: expected at least one character to continue, got none")
    rng = np.random.default_rng(seed)
    for _ in range(length):
        # The largest of logits with Gumbel noise is a draw from their distribution.
        token = int(np.argmax(np.asarray(logits[0], np.float64) / temperature + rng.gumbel(size=len(characters))))
        yield characters[token]
        logits, state = program.functions["step"](state, np.array([token], np.int32))


def compute(program: Program, path: Path, out: Path | None) -> str:
    """Computes the outputs for the array in a .npy file and returns a line about them."""
    try:
        inputs = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"--batch: expected a .npy file, got {path}: {error}") from error
    outputs = program.functions["call"](inputs)
    if out is None:
        return f"{len(inputs):,} examples; outputs {jax.tree.map(lambda a: f'{a.dtype} {a.shape}', outputs)}"
    if not isinstance(outputs, jax.Array):
        raise ValueError(f"--out: expected a program with one output, got {list(outputs)}; a .npy holds one array.")
    # Writes beside and renames, so that an interruption never leaves half a file.
    beside = out.with_name(f".{out.name}.part")
    with beside.open("wb") as file:
        np.save(file, np.asarray(outputs))
    beside.replace(out)
    return f"{len(inputs):,} examples; outputs {outputs.dtype} {outputs.shape} are in {out}"


def serve(program: Program, options: argparse.Namespace) -> None:
    """Prints what the program computes for the inputs that the options name."""
    if options.picture:
        print(*classify(program, options.picture, options.invert), sep="\n")
    elif options.characters is not None:
        typed = options.characters == "-"
        text = iter(lambda: sys.stdin.read(1), "") if typed else options.characters
        print("" if typed else text, end="")
        for character in write_on(program, text, options.length, options.temperature, options.seed):
            print(character, end="", flush=True)
        print()
    elif options.batch:
        print(compute(program, options.batch, options.out))
    else:
        print(json.dumps(program.contents, indent=2, ensure_ascii=False))


def check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raises where an option has no effect without another one."""
    for needed, names in NEEDED.items():
        for name in names:
            option, value = f"--{name}", getattr(options, name)
            if getattr(options, needed) is None and value != parser.get_default(name):
                raise ValueError(f"{option}: expected nothing without --{needed}, got {value}; leave it out.")


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line and serves."""
    about, _, more = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "python -m experiments.serve", description=about, epilog=more, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("program", type=Path, help="a file that train.export made, model.jaxprogram of a run")
    one = parser.add_mutually_exclusive_group().add_argument
    one("--picture", type=Path, nargs="+", metavar="FILE", help="classify pictures")
    add("--invert", action="store_true", help="dark on light: pictures whose background is not black")
    one("--characters", metavar="TEXT", help="continue this text; - reads standard input")
    add("--length", type=int, default=500, help="characters to write")
    add("--temperature", type=float, default=0.8, help="below 1 favours likely characters, above 1 unlikely ones")
    add("--seed", type=int, default=0, help="the same seed writes the same text")
    one("--batch", type=Path, metavar="FILE", help="compute the outputs for the array in a .npy file")
    add("--out", type=Path, metavar="FILE", help="where to write the outputs of --batch, .npy")
    options = parser.parse_args(arguments)
    try:
        check(options, parser)
        program = load(options.program)
        serve(program, options)
    except BrokenPipeError:  # the reader closed the pipe: `serve ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush at exit
    except jax.errors.JaxRuntimeError as error:
        if "deserialize" not in str(error):
            raise
        sys.exit(f"error: JAX {program.contents['jax']} wrote {options.program}, and {jax.__version__} cannot read it")
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
