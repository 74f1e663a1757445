"""What a page is made of: sections with findings, charts and tables, all as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
"""A chart in the language of Vega-Lite."""


@dataclass(frozen=True)
class Finding:
    """Something that stands out.

    Attributes:
        meaning: One sentence: what it is and means.
        action: One sentence: what one could do; "" where nothing needs to be done.
        warning: Whether it may do harm.
    """

    meaning: str
    action: str = ""
    warning: bool = False


@dataclass(frozen=True)
class Table:
    """Figures as text.

    Attributes:
        caption: What they are.
        headers: Of the columns.
        rows: As many texts each as there are headers; the first names the row.
    """

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        key: Its name in the page.
        label: What it shows, for those who do not see it.
        spec: It.
        table: The same figures.
    """

    key: str
    label: str
    spec: Spec
    table: Table


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        key: Its name in the page: "cost", "losses", "map", "visits", "classes", "samples".
        title: Its heading.
        lead: What it shows, in a sentence or two.
        findings: What stands out in it.
        figures: Single figures: what it is, and its text.
        charts: Its pictures.
        tables: Figures that have no picture.
        data: What the script of the page reads, such as the pictures of all epochs.
    """

    key: str
    title: str
    lead: str = ""
    findings: Sequence[Finding] = ()
    figures: Sequence[tuple[str, str]] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    data: dict[str, Any] = field(default_factory=dict)


def rounded(value: float) -> float:
    """Returns a number with 6 digits, so that a page stays small."""
    return float(f"{float(value):.6g}")
