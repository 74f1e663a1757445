"""All runs of a comparison: those that are there, those that are made, and what they come to."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from errno import EISDIR
from math import isfinite
from pathlib import Path

from seta.comparison import lines as files
from seta.comparison.cells import Cells, cells_of
from seta.comparison.early import Rounds, confidence_of
from seta.comparison.group import Group
from seta.comparison.lines import Line
from seta.comparison.result import FILES, Comparison, Stopped
from seta.comparison.runner import Failure, Orders, Watcher, make_apart, make_here
from seta.comparison.statistics import CONFIDENCE
from seta.comparison.trial import Job, Training
from seta.comparison.verdict import joined
from seta.engine.files import writing
from seta.engine.state.describe import describe
from seta.report.units import text_of

logger = logging.getLogger(__name__)

RUNS = "runs.jsonl"
LOWER = re.compile(
    r"^(?!.*(?<![a-z])(acc(uracy)?|gain|skill)(?![a-z]))"
    r".*(loss|error|entropy|perplexity|bits.per|distance|divergence|chamfer|lpips|brier|regret"
    r"|(?<![a-z])(err|n?r?msl?e|n?mae|mase|[sw]?m?ape)(?![a-z])"
    r"|(?<![a-z])(ppl|nll|b?ce|ece|kl|bp[bcd]|wer|cer|eer|fid)(?![a-z]))"
)
"""Names of figures that are better when lower, unless something else is said."""


class Runs:
    """The runs of one call, made or not yet made."""

    def __init__(
        self,
        training: Training,
        planned: Sequence[Job],
        lower: bool | Collection[str] | None,
        until: str | None,
        fraction: float | None,
        title: str,
    ) -> None:
        if until not in (None, "told apart"):
            raise ValueError(f'until must be "told apart" or None, got {until!r}')
        self.training, self.planned, self.lower = training, planned, lower
        self.fraction, self.title = fraction, text_of(title)
        count = len({job.seed for job in planned})
        self.confidence = confidence_of(count, early=until is not None)
        self.rounds = Rounds(count, {job.at[:2] for job in planned}) if until else None
        self.group = Group()
        self.lines: list[Line] = []
        self.taken_up = 0
        self.failures: list[Failure] = []
        self.out: Path | None = None
        self.show: Callable[[Comparison], object] = lambda comparison: None

    def make(self, out: Path | None, jobs: int, progress: bool) -> Comparison:
        """Makes the runs that are missing, and returns all."""
        self.out = out if self.group.first else None
        with nullcontext() if self.out is None else held(self.out):
            if out is not None:
                self._take_up(self.group.of_first(files.read(out / RUNS)))
            there = {_at(line) for line in self.lines}
            missing = [job for job in self.planned if job.at not in there]
            try:
                with self._watching(missing, progress and self.group.first) as watcher:
                    make = self.group.together(self.training)
                    orders = Orders(make, self._write, watcher, self._wanted, self._after)
                    if jobs > 1:
                        self.failures = make_apart(missing, orders, workers=jobs)
                    else:
                        self.failures = make_here(missing, orders)
            except KeyboardInterrupt:
                raise Stopped(self.result()) from None
            finally:
                if self.out is not None and self.lines:
                    self._save(self.out)
        return self.result()

    def _save(self, out: Path) -> None:
        """Writes table and picture; what goes wrong there costs no result."""
        try:
            self.result().save(out)
        except Exception:
            logger.exception("the files of the comparison could not be written to %s", out)

    def result(self) -> Comparison:
        """What there is."""
        lines = sorted(self.lines, key=lambda line: line["seed"])
        measures = list(lines[0]["metrics"]) if lines else []
        if self.lower is None:
            lower = [name for name in measures if LOWER.search(name.lower())]
        else:
            lower = measures if self.lower is True else list(self.lower or ())
        cells = cells_of(lines, measures=measures, lower=lower, confidence=self.confidence)
        failures = {job.name: reason.strip() for job, reason in self.failures}
        epochs, n = self.training.epochs, self.training.sizes.n
        title = f"{n:,} samples, {epochs} epoch{'' if epochs == 1 else 's'} of full training"
        title = f"{self.title}: {title}" if self.title else title
        return Comparison(cells, lines, failures, self._notes(cells, lower), title)

    def _notes(self, cells: Cells, lower: Sequence[str]) -> list[str]:
        said = []
        if self.fraction is not None:
            said.append(
                f"A pilot, on {100 * self.fraction:.3g} % of the data set: what holds for a part "
                "of the data, which is less redundant, may not hold for all of it."
            )
        if self.rounds:
            said += self.rounds.notes(cells)
        if self.confidence > CONFIDENCE:
            said.append(
                f"Intervals are looked at after each seed, and hold {100 * self.confidence:.4g} % "
                "instead of 95 % for that."
            )
        if self.lower is None and lower:
            said.append(
                f"{joined(lower)}: taken to be better when lower; lower_is_better= says otherwise."
            )
        if any(line["source"] != self.training.source for line in self.lines):
            said.append(
                "Some of the runs were made with other code of run (its text has changed): remove "
                "their lines, or choose another out=, if it trains otherwise."
            )
        return said

    def _take_up(self, found: Sequence[Line]) -> None:
        """Takes the runs of an earlier call, if they were made as those of this one are."""
        by_contender = {(job.contender.method, job.contender.budget): job for job in self.planned}
        mine = {job.at for job in self.planned}
        for line in found:
            _check(line)
            now, then = dict(self.training.settings), dict(line["settings"])
            if _at(line) in mine:
                contender = by_contender[line["method"], line["budget"]].contender
                now["policy"] = describe(contender.policy(), held=True)
                then["policy"] = line["policy"]
            other = [
                f"{name} was {then.get(name)!r} and is {now.get(name)!r}"
                for name in dict.fromkeys((*now, *then))
                if now.get(name) != then.get(name)
            ]
            if other:
                raise ValueError(
                    f"out holds runs that were made otherwise: {'; '.join(other)} "
                    f"({line['method']}, seed {line['seed']}). Give another folder, or remove "
                    f"{RUNS}"
                )
            if _at(line) not in mine:
                continue
            known, measured = self._figures(line)
            if measured != known:
                raise ValueError(
                    f"out holds runs of other figures, {known} and {measured} ({line['method']}, "
                    f"seed {line['seed']}): remove the lines of one kind from {RUNS}"
                )
            self.lines.append(line)
        self.taken_up = len(self.lines)
        if self.lines:
            self._check_lower(list(self.lines[0]["metrics"]))

    def _write(self, line: Line) -> str | None:
        """Takes a line as soon as its run is over; returns why not, if it does not.

        Raises:
            ValueError: `lower_is_better` names what is not measured, or an earlier call has
                measured other figures.
        """
        known, measured = self._figures(line)
        if measured != known:
            if len(self.lines) == self.taken_up:  # the next run would be refused as well
                raise ValueError(
                    f"out holds runs of other figures: run returned {known}, and now {measured}. "
                    f"Give another folder, or remove {RUNS}"
                )
            return f"run must return the same figures each time: {known}, and then {measured}"
        self.lines.append(line)
        if self.out is not None:
            files.append(self.out / RUNS, line)
            writing.whole(self.out / FILES[0], self.result().to_markdown().encode())
        self._check_lower(known)
        return None

    def _figures(self, line: Line) -> tuple[list[str], list[str]]:
        """Returns the names of the figures that are known, and of those of a line."""
        return list((self.lines or [line])[0]["metrics"]), list(line["metrics"])

    def _check_lower(self, measured: Sequence[str]) -> None:
        """Sees that what is better when lower is measured."""
        given = () if isinstance(self.lower, bool) or self.lower is None else self.lower
        if unknown := sorted(set(given) - set(measured)):
            raise ValueError(
                f"lower_is_better must be of {list(measured)}, which run returns; got {unknown}"
            )

    def _after(self, line: Line) -> None:
        """Shows the table after the last run of a seed."""
        if self._whole(line["seed"]) and len(self.lines) < len(self.planned):
            self.show(self.result())

    def _whole(self, seed: int) -> bool:
        """Whether all runs of a seed are there."""
        there = {_at(line) for line in self.lines}
        return all(job.at in there for job in self.planned if job.seed == seed)

    def _wanted(self, job: Job) -> bool:
        return self.rounds is None or self.rounds.wanted(job, self.result().cells)

    @contextmanager
    def _watching(self, missing: Sequence[Job], progress: bool) -> Iterator[Watcher]:
        if not progress or not missing:
            yield Silent()
            return
        from seta.comparison.display import display
        from seta.terminal import console_of

        console = console_of(stderr=True)
        to_file = not console.is_terminal
        self.show = lambda comparison: console.print(comparison.table(console), soft_wrap=to_file)
        with display(console, missing, len(self.planned) - len(missing)) as watcher:
            yield watcher


class Silent:
    """Watches runs, and says nothing but what the logger says."""

    def started(self, worker: int, job: Job) -> None:
        """Logs it."""
        logger.info("%s begins", job.name)

    def epoch(self, worker: int, job: Job, done: int, visits: int, figure: float | None) -> None:
        """Logs it."""
        logger.debug("%s: epoch %d of %d", job.name, done, job.epochs)

    def finished(self, worker: int, job: Job, line: Line) -> None:
        """Logs it."""
        logger.info("%s: %s", job.name, line["metrics"])

    def failed(self, worker: int, job: Job, reason: str) -> None:
        """Logs it."""
        logger.error("%s failed:\n%s", job.name, reason)

    def left_out(self, job: Job) -> None:
        """Logs it."""
        logger.info("%s is not needed", job.name)


def _at(line: Line) -> tuple[str, float | None, int]:
    return (line["method"], line["budget"], line["seed"])


def _check(line: Line) -> None:
    """Sees that a line is one of a comparison, and whole.

    Raises:
        ValueError: It is not: somebody has changed it.
    """
    metrics, seed = line.get("metrics"), line["seed"]
    figures = list(metrics.values()) if isinstance(metrics, dict) else []
    sizes = [line.get(name) for name in ("visits", "full_visits")]
    whole = (
        figures
        and all(isinstance(one, (int, float)) and isfinite(one) for one in figures)
        and all(isinstance(one, int) and one > 0 for one in sizes)
        and isinstance(line.get("seconds"), (int, float))
        and isinstance(line.get("settings"), dict)
        and {"policy", "source", "saved"} <= line.keys()
    )
    if not whole:
        raise ValueError(
            f"{RUNS} has a line that is none of seta.compare, or was changed ({line['method']}, "
            f"seed {seed}): remove it, and its run is made again"
        )


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Holds a folder as long as a comparison writes to it; a killed one lets go of it.

    Raises:
        RuntimeError: Another one holds it.
        OSError: It cannot be made or written to, or has a folder in the place of a file.
    """
    import fcntl

    out.mkdir(parents=True, exist_ok=True)
    for path in (out / name for name in (RUNS, *FILES)):
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    with (out / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(
                f"out={str(out)!r} is in use by another comparison: wait for its end, or give "
                "another folder"
            ) from error
        yield
