"""Names of checks, as they are chosen or left out."""

from collections.abc import Collection, Iterable


def check_names(argument: str, given: Iterable[str] | None, known: Collection[str]) -> None:
    """Raises unless an argument is None or a list of known names."""
    if isinstance(given, str):
        raise ValueError(f"{argument}: expected a list of names, got {given!r}; write [{given!r}].")
    unknown = set(given or ()) - set(known)
    if unknown:
        raise ValueError(f"{argument}: expected some of {sorted(known)}, got {sorted(unknown)}")
