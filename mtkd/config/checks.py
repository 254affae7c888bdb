"""Checks of settings: `ValueError` with one sentence, which pydantic reports with the field."""

from collections.abc import Collection, Iterable


def require(condition: object, message: str) -> None:
    """Raise `ValueError` with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_distinct(field: str, values: Collection) -> None:
    """Raise `ValueError` where a value of the field appears twice."""
    require(len(set(values)) == len(values), f"{field}: a value appears twice")


def require_known(field: str, names: Iterable, known: Collection, why: str) -> None:
    """Raise `ValueError` where a name is not among the known; `why` says what that means."""
    for name in names:
        allowed = ", ".join(map(str, known)) or "none"
        require(name in known, f"{field}: '{name}' {why}; allowed: {allowed}")
