"""Puts the figures of `results/*.json` into README.md, between its marks.

After a run of the programs: `python examples/tasks/page.py`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
NAMES = (
    "scene_text",
    "captioning",
    "referring_segmentation",
    "composed_retrieval",
    "geo_localization",
    "multi_view_stereo",
    "instruction_tuning",
)
SCALES = ("scene_text-scale", "captioning-scale")


def rows_of(result: dict[str, Any]) -> list[list[str]]:
    """Returns the rows of a program: a method each."""
    samples, rows = result["settings"]["samples"], []
    for row in result["rows"]:
        first, *others = row["metrics"].items()
        rest = ", ".join(f"{name} {_short(value)}" for name, value in others)
        rows.append(
            [
                row["method"],
                f"**{_short(first[1])}**",
                rest,
                f"{row['visits']:,}",
                f"{row['seconds']:.0f}",
                f"{100 * row['wrong']:.1f}",
            ]
        )
    heading = f"{result['title']}: {samples:,} samples, {100 * result['wrong']:.1f} % wrong labels"
    name = next(iter(result["rows"][0]["metrics"]))
    return [[f"**{heading}**", f"*{name}*", "", "", "", ""], *rows]


def comparison(folder: Path = FOLDER / "results") -> str:
    """Returns the table of all programs, as Markdown."""
    results = [json.loads((folder / f"{name}.json").read_text("utf-8")) for name in NAMES]
    head = ["", "First figure", "Others", "Visits", "Seconds", "Wrong among them, %"]
    rows = [row for result in results for row in rows_of(result)]
    made = sorted({_made(result) for result in results})
    return "\n".join([*_markdown(head, rows), "", f"Made on {'; '.join(made)}."])


def scales(folder: Path = FOLDER / "results") -> str:
    """Returns the table of the scale runs, as Markdown."""
    results = [json.loads((folder / f"{name}.json").read_text("utf-8")) for name in SCALES]
    head = ["", *(name.removesuffix("-scale") for name in SCALES)]
    names = results[0]["figures"]
    rows = [[name, *(_figure(result["figures"][name]) for result in results)] for name in names]
    commands = [f"`{result['command']}`" for result in results]
    return "\n".join([*_markdown(head, rows), "", f"By {' and '.join(commands)}."])


def page(text: str) -> str:
    """Returns README.md with the tables between its marks."""
    for name, table in (("comparison", comparison()), ("scale", scales())):
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table}\n\n{end}{rest.split(end)[1]}"
    return text


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _made(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{result['machine']}; {versions}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


if __name__ == "__main__":
    readme = FOLDER / "README.md"
    readme.write_text(page(readme.read_text("utf-8")), "utf-8")
