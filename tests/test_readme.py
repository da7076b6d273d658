"""The README's code runs as it stands."""

import re
from pathlib import Path

import jax
import pytest

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.startswith("import")], ids=lambda b: b.split("\n")[2][:30])
def test_code_of_the_readme_runs(block):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(block.replace("epochs=10", "epochs=1"), {})
