"""Lists the experiments."""

import ast
from pathlib import Path


def main() -> None:
    """Prints the name of each script and the first line of its docstring."""
    print("python -m experiments.NAME, where NAME is one of these; --help explains the options\n")
    here = Path(__file__).parent
    for path in sorted([*here.glob("[a-z]*.py"), here / "bench/__main__.py"]):
        source = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in source:
            name = ".".join(path.relative_to(here).with_suffix("").parts).removesuffix(".__main__")
            about, *_ = (ast.get_docstring(ast.parse(source)) or "").splitlines()
            print(f"{name:14}{about}")


if __name__ == "__main__":
    main()
