"""Arrows go down: a room of the package imports only rooms that are listed before it, and files form no circle.

`python -m tests.test_rooms` prints the rooms and their arrows.
"""

import ast
import graphlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

ROOMS = (
    "distribution",
    "shapes",
    "counts",
    "keys",
    "processor",
    "extras",
    "progress",
    "files",
    "kernels",
    "inspect",
    "metrics",
    "data",
    "plots",
    "functional",
    "testing",
    "pytest_plugin",
    "modules",
    "models",
    "interop",
    "train/losses",
    "train/step",
    "train/devices",
    "train/checkpoint",
    "train/run",
    "train/loop",
    "train/ensemble",
    "cli",
)
"""Folders and single files of `jaxnn`, from the ground up."""

NEVER = {
    "functional": ("flax", "optax"),
    "kernels": ("flax", "optax"),
    "testing": ("flax", "optax"),
    "data": ("flax", "optax"),
    "metrics": ("flax", "jax", "optax"),
    "train": ("jaxnn.models", "jaxnn.modules"),
    "": ("experiments", "tests"),
}
"""What a room never imports, by the beginning of the room's name."""


def modules() -> dict[str, Path]:
    """The files of the package by dotted name."""
    files = {}
    for path in sorted((ROOT / "jaxnn").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, at its head or later."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: expected absolute imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module: str) -> str:
    """`train/step` of `jaxnn.train.step.state`; empty for what gathers rooms, `jaxnn` and `jaxnn.train`."""
    parts = module.split(".")[1:]
    if parts[:1] == ["train"]:
        return "/".join(parts[:2]) if len(parts) > 1 else ""
    return parts[0] if parts else ""


FILES = modules()
IMPORTS = {module: list(imports(path)) for module, path in FILES.items()}


def imported_file(name: str) -> str:
    """The file of the package that an import of `jaxnn.…` reads."""
    return name if name in FILES else name.rpartition(".")[0]


def arrows() -> Counter[tuple[str, str]]:
    """How often one room imports another."""
    pairs = (
        (room(module), room(imported_file(name)))
        for module, names in IMPORTS.items()
        for name in names
        if name.split(".")[0] == "jaxnn"
    )
    return Counter((one, other) for one, other in pairs if one and other and one != other)


def test_every_room_has_its_place():
    assert {room(module) for module in FILES} - {""} == set(ROOMS)


def test_arrows_go_down():
    assert [arrow for arrow in arrows() if ROOMS.index(arrow[0]) <= ROOMS.index(arrow[1])] == []


def test_files_form_no_circle():
    graph = {
        module: {imported_file(name) for name in names if name.split(".")[0] == "jaxnn"} - {module}
        for module, names in IMPORTS.items()
        if module != "jaxnn"  # imports a room when it is used
    }
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_what_rooms_never_import():
    found = [
        (module, name)
        for module, names in IMPORTS.items()
        for name in names
        for start, never in NEVER.items()
        if room(module).startswith(start) and any(f"{name}.".startswith(f"{one}.") for one in never)
    ]
    assert found == []


def test_the_engine_of_recurrent_layers_knows_no_cell():
    """A file of the engine that is not named for a cell imports none, from the kernels neither."""
    engine, cell = "jaxnn.functional.recurrent.", re.compile("lstm|gru|rnn|lru", re.IGNORECASE)
    files = [module for module in FILES if module.startswith(engine) and not cell.search(module.removeprefix(engine))]
    assert [(module, name) for module in files for name in IMPORTS[module] if cell.search(name)] == []


def main() -> None:
    """Prints each room with its files, its lines and the rooms that it imports."""
    counted = arrows()
    print(f"{'room':18} files lines  imports")
    for name in ROOMS:
        paths = [path for module, path in FILES.items() if room(module) == name]
        lines = sum(len(path.read_text("utf-8").splitlines()) for path in paths)
        below = ", ".join(other for one, other in sorted(counted) if one == name)
        print(f"{name:18} {len(paths):5} {lines:5}  {below}")
    inside = sum(one.startswith("train/") and other.startswith("train/") for one, other in counted)
    print(f"{len(counted)} arrows between rooms, {inside} of them between those of train")


if __name__ == "__main__":
    main()
