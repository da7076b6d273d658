"""Facts about the processor, as the operating system reports them."""

import functools
from pathlib import Path


@functools.cache
def facts() -> dict[str, str]:
    """Returns Linux's facts about the first processor by name (`model name`, `flags`); an empty dict elsewhere.

    Example:
        >>> isinstance(facts().get("flags", ""), str)
        True
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def features() -> frozenset[str]:
    """Returns the processor's features by Linux's names; an empty set elsewhere.

    Example:
        >>> "no such feature" in features()
        False
    """
    known = facts()
    return frozenset((known.get("flags") or known.get("Features", "")).split())
