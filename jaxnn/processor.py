"""What the system tells of the processor."""

import functools
from pathlib import Path


@functools.cache
def facts() -> dict[str, str]:
    """What Linux tells of the first processor, by its names: `model name`, `flags`; nothing elsewhere.

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
    """What the processor can do, as Linux names it; nothing elsewhere.

    Example:
        >>> "no such feature" in features()
        False
    """
    told = facts()
    return frozenset((told.get("flags") or told.get("Features", "")).split())
