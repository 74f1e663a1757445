"""Quantities as a person reads them: bytes, times, shares, counts; and what is no text."""

from __future__ import annotations

from typing import Any

__all__ = ["count", "digits", "in_bytes", "in_time", "many", "money", "percent", "text_of"]

_TIMES = (
    (1e9, "ns", 1e-6),
    (1e6, "µs", 1e-3),
    (1e3, "ms", 1),
    (1, "s", 120),
    (1 / 60, "min", 7200),
)  # times a second, and up to which seconds


def in_bytes(count: float) -> str:
    """Bytes for a person: three digits and a decimal unit; 1 MB is 1,000,000 bytes."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5:
            return f"{digits(count)} {unit}"
        count /= 1000
    return f"{count:,.0f} PB"


def in_time(seconds: float) -> str:
    """Seconds for a person: three digits, in the unit that suits."""
    for factor, unit, below in _TIMES:
        if abs(seconds) < below and (seconds or unit == "s"):
            return f"{digits(seconds * factor)} {unit}"
    return f"{digits(seconds / 3600)} h"


def count(value: int, exact: bool) -> str:
    """A count for a person; one that is not exact is rounded to three digits, and says so."""
    return f"{value:,}" if exact else f"~ {float(f'{value:.3g}'):,.0f}"


def digits(value: float) -> str:
    """A number for a person: three digits, or all before the point while they can be read."""
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e12 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share for a person, in percent."""
    if abs(share) >= 10:
        return f"{digits(100 * share)} %"
    return f"{100 * share:.1f} %" if abs(share) >= 0.01 or not share else f"{100 * share:.2g} %"


def many(count: int, noun: str, several: str | None = None) -> str:
    """A number of things: "1 rank", "8 ranks"; `several` where that is no "s" more."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def money(amount: float) -> str:
    """An amount of money for a person, in whatever currency: cents up to a thousand."""
    if abs(amount) >= 1000:
        return f"{amount:,.0f}"
    return f"{amount:.2f}" if abs(amount) >= 0.01 or not amount else f"{amount:.2g}"


def text_of(value: Any) -> str:
    """Returns a value as text, with a question mark for what is no Unicode."""
    return str(value).encode(errors="replace").decode()
