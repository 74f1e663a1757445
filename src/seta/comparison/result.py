"""What a comparison came to: table, picture, verdict, regime, and the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seta.comparison import table as tables
from seta.comparison.cells import Cells
from seta.comparison.lines import Line
from seta.comparison.regime import regime_of, seldom, sentences
from seta.comparison.runner import cause_of
from seta.comparison.verdict import verdict
from seta.engine.files import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console, Group
    from rich.text import Text

FILES = ("comparison.md", "comparison.html", "comparison.png")


class Stopped(KeyboardInterrupt):
    """Ctrl-C has ended a comparison; the same call goes on.

    Attributes:
        comparison: What there is.
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__("the same call goes on")
        self.comparison = comparison


@dataclass(frozen=True, repr=False)
class Comparison:
    """The runs of a comparison, and what they say.

    `str(comparison)` is all of it as text; notebooks show table, verdict and picture.

    Attributes:
        cells: The runs by contender, with their means and differences.
        lines: All runs, as they are in the file of lines.
        failures: Runs that failed in this call, each with its traceback.
        notes: What else has to be known: a pilot, runs that were ended early.
        title: Of table and picture.
    """

    cells: Cells
    lines: Sequence[Line]
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    title: str = "seta.compare"

    @cached_property
    def verdict(self) -> list[str]:
        """What to do, and why: sentences, the first of which says it."""
        return verdict(self.cells)

    @cached_property
    def regime(self) -> dict[str, float]:
        """What the Full runs show of the training, see `seta.comparison.regime.Observer`."""
        return regime_of(line.get("regime") for line in self.lines)

    def rows(self) -> list[dict[str, Any]]:
        """Returns the figures of each contender as plain data; see `seta.comparison.table.rows`."""
        return tables.rows(self.cells)

    def to_pandas(self) -> Any:
        """Returns the same as a data frame.

        Raises:
            ImportError: pandas is not installed.
        """
        from seta.extras import require

        require("Comparison.to_pandas", "pandas", extra="compare")
        import pandas

        return pandas.DataFrame(self.rows())

    def to_markdown(self) -> str:
        """Returns all of it as Markdown."""
        said = [
            f"## {name}\n\n" + "\n".join(f"- {t}" for t in some) for name, some in self._sections()
        ]
        parts = [f"# {self.title}", tables.for_markdown(self.cells).rstrip(), *said]
        return "\n\n".join(parts) + "\n"

    def to_html(self, picture: str | None = None) -> str:
        """Returns all of it as a page that needs nothing else.

        Args:
            picture: Source of the picture; None: drawn, and put into the page.
        """
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width"><title>{escape(self.title)}'
            f"</title><style>{_PAGE}</style><h1>{escape(self.title)}</h1>{self._body(picture)}"
        )

    def _body(self, picture: str | None = None) -> str:
        """Returns all but the title, with a style that concerns nothing around it."""
        source = _embedded(self.figure()) if picture is None else escape(picture, quote=True)
        said = "".join(
            f"<h2>{escape(heading)}</h2><ul>{''.join(f'<li>{escape(t)}</li>' for t in texts)}</ul>"
            for heading, texts in self._sections()
        )
        alt = "Figure against cost; the same figures are in the table."
        return (
            f'<div class="seta"><style>{_STYLE}</style>{said}'
            f'<div class="wide">{tables.for_html(self.cells)}</div><img src="{source}" alt="{alt}">'
            "</div>"
        )

    def figure(self, measure: str | None = None) -> Figure:
        """Returns the picture: the figure against the cost, and each method beside equal cost.

        Args:
            measure: Which figure; None: the one that counts.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from seta.comparison.picture import draw
        from seta.extras import require

        require("the picture of a comparison", "matplotlib", extra="compare")
        return draw(self.cells, title=self.title, measure=measure)

    def save(self, folder: Path | str) -> list[Path]:
        """Writes `comparison.md`, `.html` and `.png` into a folder, and returns their paths."""
        from seta.comparison.picture import save

        to = Path(folder)
        to.mkdir(parents=True, exist_ok=True)
        paths = [to / name for name in FILES]
        writing.whole(paths[0], self.to_markdown().encode())
        figure = self.figure()
        writing.whole(paths[1], self.to_html(_embedded(figure)).encode())
        save(figure, paths[2])
        return paths

    def table(self, console: Console | None = None) -> Group | Text:
        """Returns the tables for a terminal, made with rich; plain text for a file or a pipe."""
        if console is not None and not console.is_terminal:
            from rich.text import Text

            return Text(f"{self.title}\n\n{tables.for_text(self.cells)}\n")
        return tables.for_terminal(self.cells, self.title)

    def __repr__(self) -> str:
        count = len(self.lines)
        return (
            f"Comparison({self.title}; {count} run{'' if count == 1 else 's'}; {self.verdict[0]})"
        )

    def said(self) -> str:
        """Returns verdict, regime, notes and failures as plain text."""
        sections = self._sections()
        parts = ["\n".join([f"{name}:", *(f"  {t}" for t in texts)]) for name, texts in sections]
        return "\n\n".join(parts)

    def __str__(self) -> str:
        return "\n\n".join([self.title, tables.for_text(self.cells), self.said()])

    def _repr_html_(self) -> str:
        return f"<h3>{escape(self.title)}</h3>{self._body()}"

    @property
    def _judged(self) -> str:
        """The heading of the verdict: by which figure, and which way that is better."""
        if not self.cells.measures:
            return "Verdict"
        return f"Verdict, by {tables.direction(self.cells, self.cells.measures[0])}"

    def _sections(self) -> list[tuple[str, list[str]]]:
        failures = [f"{name}: {cause_of(reason)}" for name, reason in self.failures.items()]
        found = [
            (self._judged, self.verdict),
            ("What the run is like", sentences(self.regime, seldom(self.lines))),
            ("Notes", list(self.notes)),
            ("Runs that failed", failures),
        ]
        return [(heading, texts) for heading, texts in found if texts]


_PAGE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}@media(prefers-color-scheme:dark){body{color:#ddd;"
    "background:#161616}}"
)
_STYLE = (  # the picture stays dark on white
    ".seta table{border-collapse:collapse;font-size:.9rem}.seta th,.seta td{padding:.25rem .7rem;"
    "border-bottom:1px solid #8886;text-align:right;white-space:nowrap}"
    ".seta th[scope=row],.seta th:first-child,.seta caption{text-align:left}"
    ".seta .wide{overflow-x:auto}.seta img{max-width:100%}"
    ".seta caption{font-weight:600;padding:1rem .7rem .3rem}"
)


def _embedded(figure: Figure) -> str:
    """Returns a picture as a source that holds it whole."""
    from base64 import b64encode
    from io import BytesIO

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode()
