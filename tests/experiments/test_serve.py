"""Exported programs are served in a process that can import neither this package nor what models are made of."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from PIL import Image

from experiments import serve
from jaxnn import models, train

pytest.importorskip("flatbuffers", reason="JAX writes exported programs with flatbuffers")

ALONE = """
import runpy, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"jaxnn", "experiments", "flax", "optax", "orbax", "chex"}:
            raise ImportError(f"{name} cannot be imported here")

sys.meta_path.insert(0, Refused())
try:
    import jaxnn
except ImportError:
    pass
else:
    raise SystemExit("jaxnn was imported")
main = runpy.run_path(sys.argv[1])["main"]
for line in sys.stdin.read().splitlines():
    main(line.split())
assert not [name for name in sys.modules if name.split(".")[0] in {"jaxnn", "flax"}]
"""


def exported(model, *args, **options):
    state = train.create_state(model, optax.sgd(0.1), jax.random.key(0))
    return train.export(state, *args, platforms=("cpu", "cuda"), **options)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """A folder with both programs, exported once, and what their networks say."""
    folder = tmp_path_factory.mktemp("programs")
    model = models.LeNet((8, 8, 1), filters=(2, 3), hidden=4, classes=3, rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    preprocess = train.image_preprocess(mean=0.4, std=0.3)
    about = {"classes": ["cat", "dog", "owl"]}
    exported(model, images[:1], preprocess=preprocess, about=about).save(folder / "pictures.jaxprogram")
    model.eval()
    logits = np.asarray(model(preprocess(None, images)))
    model = models.LanguageModel(3, embed_features=4, hidden_features=5, rngs=nnx.Rngs(0))
    token = np.zeros((1, 1), np.int32)
    program = exported(model, token, shapes="b, t", step_example=token[:, 0], about={"characters": "ab "})
    program.save(folder / "characters.jaxprogram")
    model.eval()
    return folder, images, logits, model


@pytest.fixture
def programs(exports):
    """Both programs in the working directory; pictures with the logits that the network gives them, and the other."""
    folder, *networks = exports
    shutil.copytree(folder, ".", dirs_exist_ok=True)
    return networks


def test_a_process_without_the_package_predicts_a_picture_a_stream_and_batches(programs):
    images, logits, characters = programs
    Image.fromarray(images[0, :, :, 0]).save("picture.png")
    np.save("five.npy", images)
    np.save("two.npy", images[:2])
    lines = (
        "pictures.jaxprogram --picture picture.png",
        "pictures.jaxprogram --batch five.npy --out five.npy",
        "pictures.jaxprogram --batch two.npy",
        "characters.jaxprogram --characters ab --length 6 --temperature 1e-6",
    )
    command = [sys.executable, "-I", "-c", ALONE, str(Path(serve.__file__))]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    picture, five, two, text = done.stdout.splitlines()
    order = np.argsort(-logits[0])
    best = jax.nn.softmax(logits[0])[order[0]]
    assert picture.startswith(f"picture.png: {('cat', 'dog', 'owl')[order[0]]} {best:.1%}, ")
    assert five == "5 examples; outputs float32 (5, 3) are in five.npy"
    assert two == "2 examples; outputs float32 (2, 3)"
    np.testing.assert_allclose(np.load("five.npy"), logits, rtol=1e-4, atol=1e-5)
    tokens = [0, 1]
    for _ in range(6):  # so cold that each character is the most likely one, given all before it
        tokens.append(int(np.asarray(characters(np.array(tokens, np.int32))[0])[-1].argmax()))
    assert text == "".join("ab "[token] for token in tokens)


def test_a_program_tells_what_it_takes_and_returns(programs, capsys):
    serve.main(["pictures.jaxprogram"])
    contents = json.loads(capsys.readouterr().out)
    assert contents["functions"]["call"] == {"arguments": ["uint8[b, 8, 8, 1]"], "result": "float32[b, 3]"}
    assert contents["about"]["classes"] == ["cat", "dog", "owl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("missing.jaxprogram", "missing.jaxprogram"),
        ("broken.jaxprogram", "broken.jaxprogram is damaged or no exported program"),
        ("pictures.jaxprogram --characters ab", "--characters: expected a program that reads characters"),
        ("pictures.jaxprogram --batch empty.npy", "--batch: expected a .npy file, got empty.npy: No data left in file"),
        ("characters.jaxprogram --picture broken.jaxprogram", "--picture: expected a program for pictures"),
        ("characters.jaxprogram --characters abc", "--characters: expected characters of 'ab ', got 'c'"),
        ("characters.jaxprogram --characters ab --temperature 0", "--temperature: expected a positive number"),
        ("pictures.jaxprogram --picture broken.jaxprogram", "cannot identify image file"),
        (
            "pictures.jaxprogram --out five.npy",
            "--out: expected nothing without --batch, got five.npy; leave it out",
        ),
        ("characters.jaxprogram --seed 1", "--seed: expected nothing without --characters"),
    ],
)
def test_what_cannot_be_served_is_reported(line, message, programs):
    Path("broken.jaxprogram").write_bytes(b"no zip")
    Path("empty.npy").touch()
    with pytest.raises(SystemExit, match=message):
        serve.main(line.split())
