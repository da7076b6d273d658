"""One hand: the form of docstrings, comments and error messages, read from the source without importing it.

`python -m tests.test_style` lists every fault, also in files that are not checked yet; with paths, only those in these.
"""

import ast
import functools
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxnn"
EXPERIMENTS = ROOT / "experiments"

NOT_YET: tuple[str, ...] = ()
"""Files and folders that other work rewrites at present; they are checked when they leave this list."""

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "References", "Example")
"""The headings of a docstring, in their order."""

NAMED = ("Args", "Attributes", "Raises")
"""Sections whose entries are `name: Text.`"""

LONGEST = 300
"""Lines of a file."""

FORBIDDEN = {
    r"so many": "a number",
    r"such as": "the examples alone, or `for example`",
    r"of (its|their|his|one's) own": "cut it, or `separate`",
    r"(it|which|that|what|they|who) stands?": "the verb that says what it does",
    r"(goes|go|going|went) on with": "`resumes` or `continues`",
    r"(is|are|was|be|being) told": "who reports what to whom",
    r"(is|are|was|be|being) asked for": "who requests what",
    r"of no matter": "`undefined`",
    r"as many .{1,40} as there are": "`one per …`",
    r"in place of": "`instead of`",
    r"ragged": "`of different lengths`",
}
"""Phrases that a reader trips over, and what says it plainly."""

AGREED = {
    "NotServedError": "completes the sentence `algorithm='…' has no …`",
    "FailedError": "is a cause that `DownloadError` quotes",
    "_RefusedError": "is a cause that `read_pickle` quotes",
    "_RowError": "is a cause that `read_parquet` quotes",
    "LeftOutError": "is a reason that `experiments.compare` quotes",
    "AssertionError": "says which check of a layer failed",
    "AttributeError": "is Python's own wording",
}
"""Exceptions with another form than `subject: what is wrong`, and why."""

AGREED_MESSAGES = ("a {}",)
"""Messages that another one quotes."""

WRONG_ARGUMENT = ("ValueError", "TypeError", "KeyError", "IndexError")
"""Exceptions that say `argument: expected WHAT, got WHAT; WHAT TO DO.`"""


class Source:
    """One file: its text, its tree, and the names that its packages export."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        self.text = path.read_text("utf-8")
        self.tree = ast.parse(self.text)
        self.exported: set[str] = set()
        for folder in path.parents[: len(path.relative_to(PACKAGE).parts)] if path.is_relative_to(PACKAGE) else ():
            self.exported |= exports(folder / "__init__.py")

    def docs(self) -> Iterator[tuple[int, str]]:
        """Each docstring, those of constants and attributes too, with its line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for item in node.body:
                    value = item.value if isinstance(item, ast.Expr) else None
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield item.lineno, inspect.cleandoc(value.value)

    def comments(self) -> Iterator[tuple[int, str]]:
        """Each comment, adjacent lines as one, with its first line."""
        first, lines = 0, []
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                if first + len(lines) != token.start[0]:
                    yield first, " ".join(lines)
                    first, lines = token.start[0], []
                lines.append(token.string.lstrip("# "))
        yield first, " ".join(lines)

    def raised(self) -> Iterator[tuple[int, str, str]]:
        """Each exception with a literal message: its line, its class and the message, `{}` for what is filled in."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                message = literal(node.exc.args[0])
                if message is not None:
                    yield node.lineno, ast.unparse(node.exc.func).split(".")[-1], message


@functools.cache
def exports(file: Path) -> frozenset[str]:
    """The names in the `__all__` of a file."""
    if not file.exists():
        return frozenset()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def literal(node: ast.expr) -> str | None:
    """The text of a string or an f-string, or None of anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = literal(node.left), literal(node.right)
        return None if left is None and right is None else (left or "{}") + (right or "{}")
    return None


def sections(doc: str) -> list[tuple[str, list[str]]]:
    """The parts of a docstring: its text under an empty heading, then each section by its heading."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    for line in doc.split("\n"):
        heading = re.fullmatch(r"([A-Z][a-z]+):", line)
        if heading:
            parts.append((heading[1], []))
        else:
            parts[-1][1].append(line)
    return parts


def entries(heading: str, lines: list[str]) -> list[str]:
    """The entries of a section: one a line with four spaces where they have names, otherwise one in all."""
    if heading not in NAMED:
        return ["\n".join(lines)]
    found: list[str] = []
    for line in lines:
        if re.match(r" {4}\S", line) or not found:
            found.append(line)
        else:
            found[-1] += "\n" + line
    return found


def faults_of_sections(doc: str) -> Iterator[str]:
    headings = [heading for heading, _ in sections(doc)[1:]]
    for heading in headings:
        if heading not in SECTIONS:
            yield f"heading {heading}: expected one of {', '.join(SECTIONS)}"
    known = [SECTIONS.index(heading) for heading in headings if heading in SECTIONS]
    if known != sorted(set(known)):
        yield f"headings {headings}: expected each once, in the order {', '.join(SECTIONS)}"
    for heading, lines in sections(doc):
        body = [line for line in lines if line]
        if heading != "Example" and any(line.lstrip().startswith(">>>") for line in body):
            yield "an example outside `Example:`"
        if not heading:
            continue
        if not body or not re.match(r" {4}\S", body[0]) or any(not line.startswith("    ") for line in body):
            yield f"{heading}: expected every line under it with four spaces or more"
        elif heading != "Example":
            for entry in entries(heading, body):
                yield from faults_of_entry(heading, entry)


def faults_of_entry(heading: str, entry: str) -> Iterator[str]:
    first, *rest = entry.split("\n")
    text = entry.strip()
    if heading in NAMED:
        named = re.match(r" {4}(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*): (.+)", first)
        if not named:
            yield f"{heading}: expected `name: Text.`, got {first.strip()!r}"
            return
        text = "\n".join([named[2], *rest])
        if any(not line.startswith(" " * 8) for line in rest):
            yield f"{heading}, {named[1]}: expected its further lines with eight spaces"
    if text[:1].islower():
        yield f"{heading}: expected a capital, got {text[:40]!r}"
    last = text.split("\n")[-1]
    in_block = last.startswith(" " * (12 if heading in NAMED else 8)) and ".. math::" in text
    if not in_block and not re.search(r"(\.|\.\)|https?://\S+)$", text):
        yield f"{heading}: expected a full stop, got {text[-40:]!r}"


def faults_of_text(doc: str) -> Iterator[str]:
    summary = doc.split("\n\n")[0]
    if re.match(r"What\b", doc):
        yield f"summary: expected a verb or a noun, got {doc[:40]!r}"
    if summary[:1].islower():
        yield f"summary: expected a capital, got {summary[:40]!r}"
    if not re.search(r"[.:)`]$", summary) and ".. math::" not in summary:
        yield f"summary: expected a full stop, got {summary[-40:]!r}"
    if re.search(r"\\\(|\\\)|\\\[|\\\]|\$\$", re.sub(r":math:`[^`]*`", "", doc)):
        yield r"mathematics: expected `.. math::` or :math:, got \( \) or \[ \]"
    if re.search(r":math:`[^`\n]*\n", doc):
        yield "mathematics: expected :math: on one line, which the reference renders"
    if "``" in doc:
        yield "backticks: expected single ones"


def faults_of_signature(source: Source) -> Iterator[tuple[int, str]]:
    """Public functions and classes document arguments and results; of methods, those with more than a summary do."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__" and ast.get_docstring(item):
                    yield item.lineno, f"{node.name}.__init__: expected its arguments in the docstring of the class"
    for node in source.tree.body:
        if getattr(node, "name", None) not in source.exported:
            continue
        if isinstance(node, ast.FunctionDef):
            yield from undocumented(node, node)
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    if item.name == "__init__":
                        yield from undocumented(item, node, returns=False)
                    elif not item.name.startswith("_") and "\n" in (ast.get_docstring(item) or ""):
                        yield from undocumented(item, item)


def undocumented(function: ast.FunctionDef, owner: ast.AST, returns: bool = True) -> Iterator[tuple[int, str]]:
    doc = ast.get_docstring(owner) or ""  # type: ignore[arg-type]
    parts = dict(sections(doc))
    if {"overload", "property", "functools.cached_property"} & {ast.unparse(one) for one in function.decorator_list}:
        return
    a = function.args
    given = [one.arg for one in [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg] if one is not None]
    given = [name for name in given if name not in ("self", "cls")]
    named = re.findall(r"^ {4}(\*{0,2}\w.*?): ", "\n".join(parts.get("Args", [])), re.MULTILINE)
    named = [name.lstrip("*") for entry in named for name in entry.split(", ")]
    if sorted(given) != sorted(named):
        yield function.lineno, f"{function.name}, Args: expected {given}, got {named}"
    result = ast.unparse(function.returns) if function.returns else "None"
    if (
        given
        and returns
        and result not in ("None", "Self", "Iterator[None]")
        and not {"Returns", "Yields"} & set(parts)
    ):
        yield function.lineno, f"{function.name}: expected Returns, got none"


def faults_of_message(error: str, message: str) -> Iterator[str]:
    if error in AGREED or message in AGREED_MESSAGES or re.match(r"\{\}(\{\})*(; |$)", message):
        return  # agreed, or what is wrong is written elsewhere
    if error in WRONG_ARGUMENT:
        if not re.match(r"[^:;]+: (\{\}|expected .+, got .+|\{\}.*got .+)", message, re.DOTALL):
            yield f"{error}: expected `argument: expected WHAT, got WHAT; WHAT TO DO.`, got {message!r}"
    elif not re.match(r"[^;]+?: .+", message, re.DOTALL):
        yield f"{error}: expected `subject: what is wrong; WHAT TO DO.`, got {message!r}"
    if re.search(r"; ", message) and not message.endswith((".", "{}")):
        yield f"{error}: expected a full stop after what to do, got {message[-40:]!r}"


def faults_of_words(text: str) -> Iterator[str]:
    plain = re.sub(r"`[^`]*`", "``", " ".join(text.split()))
    for phrase, better in FORBIDDEN.items():
        for found in re.finditer(rf"\b(?:{phrase})(?!\w)", plain, re.IGNORECASE):
            yield f"{found[0]!r}: expected {better}"


def faults(source: Source) -> list[str]:
    """All faults of a file, each with its line."""
    found: list[tuple[int, str]] = list(faults_of_signature(source))
    for line, doc in source.docs():
        found += [(line, fault) for check in (faults_of_text, faults_of_sections) for fault in check(doc)]
        found += [(line, fault) for fault in faults_of_words(doc)]
    for line, comment in source.comments():
        found += [(line, fault) for fault in faults_of_words(comment)]
    for line, error, message in source.raised():
        found += [(line, fault) for fault in [*faults_of_message(error, message), *faults_of_words(message)]]
    lines = source.text.count("\n")
    if lines > LONGEST:
        found.append((lines, f"expected at most {LONGEST} lines, got {lines}"))
    return [f"{source.name}:{line}: {fault}" for line, fault in sorted(set(found))]


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def waits(path: Path) -> bool:
    """Whether a file is in a place that is not checked yet."""
    return any(f"{path.relative_to(ROOT).as_posix()}/".startswith(f"{place}/") for place in NOT_YET)


ROOMS = sorted({path.relative_to(PACKAGE).parts[0] for path in files()})


@pytest.mark.parametrize("room", ROOMS)
def test_one_hand(room):
    paths = [path for path in files() if path.relative_to(PACKAGE).parts[0] == room and not waits(path)]
    assert [fault for path in paths for fault in faults(Source(path))] == []


def experiments() -> list[Path]:
    return sorted(EXPERIMENTS.rglob("*.py"))


def test_experiments_are_by_the_same_hand():
    assert [fault for path in experiments() for fault in faults(Source(path))] == []


def test_errors_of_experiments_name_the_option_or_the_file():
    unnamed = [
        f"{path.name}:{line}: {message}"
        for path in experiments()
        for line, error, message in Source(path).raised()
        if error == "ValueError" and not re.match(r"--[a-z-]+|[A-Z]+: |\{\}|nothing can be compared: ", message)
    ]
    assert unnamed == []


if __name__ == "__main__":
    for chosen in [Path(name).resolve() for name in sys.argv[1:]] or files() + experiments():
        for one in faults(Source(chosen)):
            print(one)
