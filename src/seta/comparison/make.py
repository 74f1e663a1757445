"""`compare`: which method, at which budget, on my data, with my training? And is it worth it?

    def run(loader, seed):
        ...                                 # the user's own training, over loader.epochs epochs
        return accuracy

    print(seta.compare(run, dataset, epochs=20, batch_size=128, methods=["SeTa"], out="compare"))

Full training and Full at equal cost, full training for as many epochs as a budget pays for, are
always among the contenders: a method that does not beat the latter is worth nothing. All run from
the same seeds, and differences are taken seed by seed. Each run is a line of `runs.jsonl` as soon
as it ends; the same call goes on where it was stopped.
"""

from __future__ import annotations

import inspect
import logging
import os
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.comparison import lines as files
from seta.comparison.cells import cells_of
from seta.comparison.contenders import EQUAL_COST, FULL, METHODS, REFERENCES, Contender
from seta.comparison.early import Rounds, confidence_of
from seta.comparison.group import Group
from seta.comparison.lines import Line
from seta.comparison.pilot import part_of
from seta.comparison.result import FILES, Comparison, Stopped
from seta.comparison.runner import Failure, Orders, Watcher, make_apart, make_here
from seta.comparison.trial import Job, Run, Training
from seta.engine import Policy
from seta.engine.arguments import integer
from seta.engine.curves.policy import is_stratified
from seta.engine.numbers import real
from seta.engine.steps import Steps
from seta.extras import require
from seta.torch import PrunedDataLoader
from seta.torch.arguments import check_dataset

logger = logging.getLogger(__name__)

RUNS = "runs.jsonl"
LOADING = (
    "num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context",
    "prefetch_factor", "persistent_workers", "pin_memory_device", "threads", "process_group",
    "collate_fn", "on_epoch", "reorder", "generator",
)  # fmt: skip
"""Options of the loader that change no result, or that no text tells apart."""

LOWER = ("loss", "error", "perplexity")
"""Words in the name of a figure that is likely to be better when lower."""


def compare(
    run: Run,
    dataset: Any,
    *,
    epochs: int,
    batch_size: int,
    methods: Sequence[str | Policy] | Mapping[str, str | Policy] = ("Learnable", "SeTa"),
    budgets: Sequence[float] = (0.5,),
    seeds: int | Sequence[int] = 3,
    out: Path | str | None = None,
    strata: ArrayLike | None = None,
    lower_is_better: bool | Collection[str] = False,
    until: Literal["told apart"] | None = None,
    fraction: float | None = None,
    jobs: int = 1,
    loader: Callable[..., Any] = PrunedDataLoader,
    settings: Mapping[str, Any] | None = None,
    title: str = "",
    progress: bool = True,
    **options: Any,
) -> Comparison:
    """Trains with several methods at equal cost, and says which of them is worth it.

    Every contender trains exactly the same number of samples, in full batches alone. Random states
    of torch, numpy and Python are seeded before each run, and restored after it.

    Args:
        run: `run(loader, seed)` trains a new net over all `loader.epochs` epochs of its loader,
            with `loader.update(losses)` for each batch, and returns what it measured on held-out
            data: a number, or a dict of them, of which the first is the one that counts. A
            learning-rate schedule has to end with the run, after `loader.total_steps`: one that
            is made for full training, or goes down by the epoch, makes the comparison unfair.
        dataset: Map-style, what is trained on.
        epochs: Of full training, >= 1.
        batch_size: Samples per batch, on each rank.
        methods: Names, see `seta methods`, or policies, which are used as they are set, or a dict
            of both by a name of your own.
        budgets: Shares of full training's sample visits, in (0, 1), at which all are compared.
        seeds: How many, or which. An interval needs two, and says little before three.
        out: Folder for the runs, and for table and picture; runs that are there are not made again.
            None: nothing is written, and a stop loses what was made.
        strata: Integers (N,), the class of each sample, for methods that look at classes.
        lower_is_better: Whether figures are better when lower; or the names of those that are.
        until: "told apart": no more seeds for a method once its interval to Full at equal cost
            leaves out zero, or no longer can within `seeds`. Intervals are wider for that.
        fraction: Of the data set, in (0, 1), for a pilot: with as many visits of each sample, and
            as many of each class, where `strata` is given.
        jobs: Runs at a time, each in a process of its own if more than one: then `run`, `loader`
            and the data set are sent there.
        loader: Makes what `run` is given, called as `seta.PrunedDataLoader`: for frameworks that
            have a loader of their own. It has to hand on all that it is given; where the result
            has a `pruner`, its losses are looked at.
        settings: What else makes a run what it is, such as a learning rate: noticed if it changes.
        title: What the table and the picture begin with.
        progress: Whether to show, on standard error, how far the runs are and how long they take.
        **options: Of the loader, such as `num_workers`.

    Returns:
        The comparison: print it, or see `.verdict`, `.to_pandas()`, `.figure()`, `.save(folder)`.

    Raises:
        TypeError, ValueError: An argument is not allowed, or the runs in `out` were made otherwise.
        RuntimeError: Another comparison is at work in `out`.
        MissingExtra: scipy, or rich or matplotlib where they are needed, is not installed.
    """
    _refuse_ungrouped()
    require("seta.compare", "scipy", *(["rich"] if progress else []), extra="compare")
    if out is not None:
        require("seta.compare with out=", "matplotlib", extra="compare")
    classes = None if strata is None else _classes(strata, check_dataset(dataset))
    if fraction is not None:
        dataset, classes = part_of(dataset, fraction, classes, options)
    sizes = Steps(
        check_dataset(dataset),
        integer("batch_size", batch_size, 1, "the samples of a batch"),
        Group().size,
        drop_last=True,
    )
    planned = _planned(
        contenders_of(methods, budgets),
        seeds_of(seeds),
        sizes,
        integer("epochs", epochs, 1, "the length of full training"),
    )
    _check_classes(planned, classes)
    training = Training(
        run=run,
        dataset=dataset,
        epochs=epochs,
        sizes=sizes,
        loader=loader,
        options=options,
        strata=classes,
        settings={
            "n": sizes.n,
            "epochs": epochs,
            "batch_size": batch_size,
            "ranks": sizes.ranks,
            "fraction": fraction,
            "strata": classes is not None,
            **{name: _plain(value) for name, value in options.items() if name not in LOADING},
            **{name: _plain(value) for name, value in (settings or {}).items()},
        },
        source=source_of(run),
    )
    if jobs > 1:
        _check_sent(run, loader)
    runs = _Runs(training, planned, lower_is_better, until, fraction, title)
    return runs.make(None if out is None else Path(out), jobs, progress)


class _Runs:
    """The runs of one call, made or not yet made."""

    def __init__(
        self,
        training: Training,
        planned: Sequence[Job],
        lower: bool | Collection[str],
        until: str | None,
        fraction: float | None,
        title: str,
    ) -> None:
        if until not in (None, "told apart"):
            raise ValueError(f'until must be "told apart" or None, got {until!r}')
        self.training, self.planned, self.lower = training, planned, lower
        self.fraction, self.title = fraction, title
        count = len({job.seed for job in planned})
        self.confidence = confidence_of(count, early=until is not None)
        self.rounds = Rounds(count) if until else None
        self.group = Group()
        self.lines: list[Line] = []
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
                    self.result().save(self.out)
        return self.result()

    def result(self) -> Comparison:
        """What there is."""
        lines = sorted(self.lines, key=lambda line: line["seed"])
        measures = list(lines[0]["metrics"]) if lines else []
        lower = measures if self.lower is True else self.lower or ()
        cells = cells_of(lines, measures=measures, lower=lower, confidence=self.confidence)
        failures = {job.name: reason.strip() for job, reason in self.failures}
        epochs, n = self.training.epochs, self.training.sizes.n
        title = f"{n:,} samples, {epochs} epochs of full training"
        title = f"{self.title}: {title}" if self.title else title
        return Comparison(cells, lines, failures, self._notes(lines), title)

    def _notes(self, lines: Sequence[Line]) -> list[str]:
        said = []
        if self.fraction is not None:
            said.append(
                f"A pilot, on {100 * self.fraction:.3g} % of the data set: what holds for a part "
                "of the data, which is less redundant, may not hold for all of it."
            )
        if self.rounds:
            said += self.rounds.notes
            said.append(
                f"Intervals are looked at after each seed, and hold {100 * self.confidence:.4g} % "
                "instead of 95 % for that."
            )
        measured = list(lines[0]["metrics"]) if lines else []
        falling = [name for name in measured if any(word in name.lower() for word in LOWER)]
        if falling and not self.lower:
            said.append(
                f"{falling[0]} was taken to be better when higher: if it is not, call it again "
                f"with lower_is_better={falling!r}, which makes no run again."
            )
        if any(line["source"] != self.training.source for line in lines):
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
            if _at(line) not in mine:
                continue
            policy = repr(by_contender[line["method"], line["budget"]].contender.policy())
            now = {**self.training.settings, "policy": policy}
            then = {**line["settings"], "policy": line["policy"]}
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
            self.lines.append(line)

    def _write(self, line: Line) -> str | None:
        """Takes a line as soon as its run is over; returns why not, if it does not.

        Raises:
            ValueError: `lower_is_better` names what is not measured.
        """
        measured = list(line["metrics"])
        known = list(self.lines[0]["metrics"]) if self.lines else measured
        if measured != known:
            return f"run must return the same figures each time: {known}, and then {measured}"
        self.lines.append(line)
        if self.out is not None:
            files.append(self.out / RUNS, line)
            (self.out / FILES[0]).write_text(self.result().to_markdown(), encoding="utf-8")
        unknown = set() if isinstance(self.lower, bool) else set(self.lower) - set(known)
        if unknown:
            raise ValueError(
                f"lower_is_better must be of {known}, which run returns; got {sorted(unknown)}"
            )
        return None

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
        from rich.console import Console

        from seta.comparison.display import display

        console = Console(stderr=True, highlight=False)
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


def contenders_of(
    methods: Sequence[str | Policy] | Mapping[str, str | Policy], budgets: Sequence[float]
) -> list[Contender]:
    """Returns the contenders in the order in which they run: Full, then by budget.

    Raises:
        TypeError, ValueError: A method or a budget is none, or is there twice.
    """
    if isinstance(methods, str) or not isinstance(methods, (Sequence, Mapping)):
        raise TypeError(
            f'methods must be a list of names or policies, ["SeTa", "RCAP"]; got {methods!r}'
        )
    named = _named(methods)
    if not isinstance(budgets, Sequence) or isinstance(budgets, str):
        raise TypeError(f"budgets must be a list of shares, [0.5, 0.7]; got {budgets!r}")
    shares = [
        float(real("budgets", share, 0, 1, "shares of full training's visits", ends="()"))
        for share in budgets
    ]
    for what, given in (("budgets", shares), ("methods", [name for name, _ in named])):
        if twice := [str(one) for one, times in Counter(given).items() if times > 1]:
            raise ValueError(f"{what} must be different, got {twice[0]} twice")
    found = [Contender(FULL, 1.0)]
    for share in shares:
        found.append(Contender(EQUAL_COST, share))
        found += [Contender(name, share, own) for name, own in named]
    return found


def _named(
    methods: Sequence[str | Policy] | Mapping[str, str | Policy],
) -> list[tuple[str, Policy | None]]:
    """Returns the methods by name, with a policy where it is none of the methods as it is."""
    from seta import policies

    pairs = methods.items() if isinstance(methods, Mapping) else ((None, one) for one in methods)
    found: list[tuple[str, Policy | None]] = []
    known = [name for name in METHODS if name not in REFERENCES and "published" not in name]
    by_name = {name.lower(): name for name in known}
    for name, method in pairs:
        if isinstance(method, str):
            if method in REFERENCES:
                continue  # always there
            if method.lower() not in by_name:
                raise ValueError(f"methods must be of {', '.join(known)}; got {method!r}")
            method = by_name[method.lower()]
            found.append((method, None) if name is None else (name, policies.get(method)))
        elif callable(method):
            found.append((name or repr(method), method))
        else:
            raise TypeError(f"methods must be names or policies, got {type(method).__name__}")
    return found


def seeds_of(seeds: int | Sequence[int]) -> list[int]:
    """Returns the seeds.

    Raises:
        TypeError, ValueError: There are none, or one is there twice.
    """
    if isinstance(seeds, Sequence) and not isinstance(seeds, str):
        found = [integer("seeds", seed, 0, "each of them") for seed in seeds]
    else:
        found = list(range(integer("seeds", seeds, 1, "how many runs of each method")))
    if not found or len(set(found)) < len(found):
        raise ValueError(f"seeds must be some, and different, got {seeds!r}")
    return found


def _planned(
    contenders: Sequence[Contender], seeds: Sequence[int], sizes: Steps, epochs: int
) -> list[Job]:
    """Returns all runs, seed by seed: whenever one stops, what there is compares equals.

    Raises:
        ValueError: The data set is too small for a batch, or a budget for the epochs.
    """
    if not sizes.most:
        raise ValueError(
            f"batch_size must be at most the samples of the data set, got {sizes.global_batch} of "
            f"{sizes.n}: no batch would be full"
        )
    found = []
    for seed in seeds:
        for contender in contenders:
            length = contender.length(sizes, epochs)
            shares = 1.0 if length["budget"] is None else length["budget"]
            if not length["epochs"]:
                raise ValueError(
                    f"budgets must leave at least one batch, got {contender.budget} of "
                    f"{epochs * sizes.batches(sizes.most)} batches"
                )
            visits = sum(sizes.lengths(shares, length["epochs"]))
            found.append(Job(contender, seed, length["epochs"], visits))
    return found


def _check_classes(planned: Sequence[Job], classes: NDArray[Any] | None) -> None:
    for contender in {job.contender.method: job.contender for job in planned}.values():
        if classes is None and is_stratified(contender.policy()):
            raise ValueError(
                f"strata must be given for {contender.method}, which looks at classes: integers "
                "(N,), the class of each sample"
            )


def _classes(strata: ArrayLike, n: int) -> NDArray[np.integer[Any]]:
    found = np.asarray(strata)
    if found.shape != (n,) or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(
            f"strata must be integers, one for each of the {n} samples, got an array of "
            f"{found.dtype} with shape {found.shape}"
        )
    return found


def _check_sent(run: Run, loader: Callable[..., Any]) -> None:
    """Sees that other processes can be given what makes a run."""
    import pickle

    for name, value in (("run", run), ("loader", loader)):
        try:
            pickle.dumps(value)
        except Exception as error:
            raise TypeError(
                f"{name} must be a function that other processes can import, for jobs > 1: define "
                f"it at the top of a module, not in a notebook or inside of a function ({error})"
            ) from error


def source_of(run: Run) -> str:
    """Returns what changes when the text of a function, or of an object's class, does.

    Empty where it has none.
    """
    told = run if hasattr(run, "__qualname__") else type(run)
    try:
        text = inspect.getsource(told)
    except (OSError, TypeError):
        return ""
    return f"{told.__qualname__} {zlib.crc32(text.encode()):08x}"


def _refuse_ungrouped() -> None:
    """Refuses to run under torchrun before the process group is there.

    Raises:
        RuntimeError: Each process would take itself for the only one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and Group().size == 1:
        raise RuntimeError(
            "seta.compare was called by one of several processes (WORLD_SIZE is "
            f"{os.environ['WORLD_SIZE']}) before torch.distributed.init_process_group(): call that "
            "first, in all of them"
        )


def _plain(value: Any) -> Any:
    """Returns a setting as a JSON file gives it back."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _at(line: Line) -> tuple[str, float | None, int]:
    return (line["method"], line["budget"], line["seed"])


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Holds a folder as long as a comparison writes to it; a killed one lets go of it.

    Raises:
        RuntimeError: Another one holds it.
    """
    import fcntl

    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(
                f"out={str(out)!r} is in use by another comparison: wait for its end, or give "
                "another folder"
            ) from error
        yield
