"""Checks of a file against the published one."""

import hashlib
from pathlib import Path
from typing import NamedTuple


class Checks(NamedTuple):
    """Known facts about a published file; None is not checked.

    Attributes:
        md5: Hexadecimal MD5.
        sha256: Hexadecimal SHA-256.
        size: Length in bytes.
    """

    md5: str | None = None
    sha256: str | None = None
    size: int | None = None

    def problem(self, path: Path) -> str | None:
        """Describes how the file at `path` differs from the published one; None if it does not."""
        got = path.stat().st_size
        if self.size is not None and got != self.size:
            return f"it has {got:,} bytes, the published file {self.size:,}"
        for name, expected in (("md5", self.md5), ("sha256", self.sha256)):
            if expected is None:
                continue
            digest = hashlib.new(name, usedforsecurity=False)  # Python in FIPS mode has no MD5 otherwise
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            if digest.hexdigest() != expected.lower():
                return f"its {name.upper()} is {digest.hexdigest()}, the published file's {expected.lower()}"
        return None
