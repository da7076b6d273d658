"""Runs the Python blocks of a page as a reader pastes them: each in a new process, with the package that is installed.

`python tests/pasted.py README.md`; the tests run the same blocks faster, with the package of the checkout.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

WHERE = """
import pathlib, sys, jaxnn
print(pathlib.Path(jaxnn.__file__).is_relative_to(sys.prefix))
"""


def run(code: str, folder: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a new process; `-c` puts `folder` first on the path, and no variable adds another."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> None:
    """Runs all blocks; exits with the first message of one that fails."""
    with tempfile.TemporaryDirectory() as folder:
        if run(WHERE, folder).stdout.strip() != "True":
            sys.exit("jaxnn: expected the installed package, got another one or none")
        for page in sys.argv[1:]:
            for block in re.findall(r"```python\n(.*?)```", Path(page).read_text("utf-8"), re.DOTALL):
                done = run(block, folder)
                if done.returncode:
                    sys.exit(f"{page}: this block fails\n\n{block}\n{done.stderr}")


if __name__ == "__main__":
    main()
