"""The code of the README and of the guides in docs runs as it stands."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


BLOCKS = blocks(ROOT / "README.md")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.startswith("import")], ids=lambda b: b.split("\n")[2][:30])
def test_code_of_the_readme_runs(block):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(block.replace("epochs=10", "epochs=1"), {})


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_code_of_a_guide_runs_in_one_piece(page):
    code = compile("\n".join(blocks(page)), page.name, "exec")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(code, {"__name__": page.stem})
