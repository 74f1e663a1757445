"""Tables and figures that fit a terminal of any width, of which nothing is ever cut.

Where there is no room for all columns, those that matter least are left out, and named below. Where
even the others do not fit, each row becomes a block with a line for each column. Needs rich.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

__all__ = ["FigureList", "FittingTable"]

_INDENT = 2
_ROOM = 36  # letters that a note needs beside its figure


@dataclass(frozen=True)
class FittingTable:
    """A table of as many columns as there is room for.

    Attributes:
        headings: One per column; the first column names the row. Their lines may be given.
        body: A text for each heading and row.
        spare: Headings of the columns that can be left out, the one that matters least first.
        bold: Numbers of the rows that stand out.
        total: Whether the last row is the sum of the others.
    """

    headings: Sequence[str]
    body: Sequence[Sequence[str]]
    spare: Sequence[str] = ()
    bold: Collection[int] = ()
    total: bool = False

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Makes the table: asked by rich, when it is printed."""
        for count in range(len(self.spare) + 1):
            left_out = self.spare[:count]
            table = self._table(left_out)
            wanted = console.measure(table, options=options.update(width=1000)).maximum
            if wanted <= options.max_width:
                yield table
                if left_out:
                    names = ", ".join(" ".join(one.split()) for one in left_out)
                    yield Text(f"Not shown at this width: {names}.", style="dim")
                return
        yield from self._blocks(options.max_width)

    def _table(self, left_out: Collection[str]) -> Table:
        table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
        kept = [heading not in left_out for heading in self.headings]
        for place, heading in enumerate(compress(self.headings, kept)):
            table.add_column(Text(heading), justify="right" if place else "left", no_wrap=True)
        for number, row in enumerate(self.body):
            if self.total and number == len(self.body) - 1:
                table.add_section()
            style = "bold" if number in self.bold else None
            table.add_row(*map(Text, compress(row, kept)), style=style)
        return table

    def _blocks(self, width: int) -> Iterator[RenderableType]:
        """A block for each row."""
        headings = [" ".join(heading.split()) for heading in self.headings[1:]]
        for number, (name, *texts) in enumerate(self.body):
            style = "bold" if number in self.bold else ""
            yield Text(f"\n{name}", style=style)
            yield from _pairs(list(zip(headings, texts, strict=True)), width, style)


@dataclass(frozen=True)
class FigureList:
    """Figures in sections, with what they are in front and a note behind, or below if need be.

    Attributes:
        sections: By title, lines of what it is, the figure, and the note, which may be empty.
    """

    sections: Mapping[str, Sequence[tuple[str, str, str]]]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Makes the list: asked by rich, when it is printed."""
        lines = [line for section in self.sections.values() for line in section]
        what, figure = (max(map(len, column)) for column in list(zip(*lines, strict=True))[:2])
        beside = _INDENT + what + 2 + figure + 3
        for title, section in self.sections.items():
            yield Text(f"\n{title}", style="bold")
            for name, value, note in section:
                line = Text(f"{name:<{what}}  {value:>{figure}}")
                if note and beside + _ROOM <= options.max_width:
                    table = Table.grid(padding=(0, 3, 0, 0))
                    table.add_column(no_wrap=True)
                    table.add_row(line, Text(note, style="dim"))
                    yield _indented(table)
                    continue
                yield from _pairs([(f"{name:<{what}}", f"{value:>{figure}}")], options.max_width)
                if note:
                    yield _indented(Text(note, style="dim"), 2)


def _pairs(
    pairs: Sequence[tuple[str, str]], width: int, style: str = ""
) -> Iterator[RenderableType]:
    """Names and texts in two columns; a text that does not fit beside its name goes below it."""
    names = max(len(name) for name, _ in pairs)
    room = width - _INDENT - names - 2
    texts = max((len(text) for _, text in pairs if len(text) <= room), default=0)
    for name, text in pairs:
        if len(text) <= room:
            yield _indented(Text(f"{name:<{names}}  {text:>{texts}}", style=style))
        else:
            yield _indented(Text(name.strip(), style=style))
            yield _indented(Text(text.strip(), style=style), 2)


def _indented(shown: RenderableType, times: int = 1) -> Padding:
    return Padding(shown, (0, 0, 0, times * _INDENT), expand=False)
