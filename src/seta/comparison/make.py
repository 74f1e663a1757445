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

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from numpy.typing import ArrayLike

from seta.comparison.arguments import (
    LOADING,
    check_classes,
    check_options,
    check_sent,
    classes_of,
    contenders_of,
    plain,
    planned_runs,
    refuse_ungrouped,
    seeds_of,
    source_of,
)
from seta.comparison.group import Group
from seta.comparison.pilot import part_of
from seta.comparison.result import Comparison
from seta.comparison.runs import Runs
from seta.comparison.trial import Run, Training
from seta.engine import Policy
from seta.engine.arguments import integer
from seta.engine.state.describe import describe
from seta.engine.steps import Steps
from seta.extras import require
from seta.torch import PrunedDataLoader
from seta.torch.arguments import check_dataset


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
    lower_is_better: bool | Collection[str] | None = None,
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
            None: those that are named so, such as "loss", "mse" or "error rate"; a note says which.
        until: "told apart": no more seeds for a method once its interval to Full at equal cost
            leaves out zero, or has less than an even chance to within `seeds`. Intervals are wider
            for that.
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
        **options: Of the loader, such as `num_workers` or `collate_fn`.

    Returns:
        The comparison: print it, or see `.verdict`, `.to_pandas()`, `.figure()`, `.save(folder)`.

    Raises:
        TypeError, ValueError: An argument is not allowed, or the runs in `out` were made otherwise.
        RuntimeError: Another comparison is at work in `out`.
        OSError: `out` cannot be written to.
        MissingExtra: scipy, or rich or matplotlib where they are needed, is not installed.
    """
    refuse_ungrouped()
    check_options(options, jobs)
    require("seta.compare", "scipy", *(["rich"] if progress else []), extra="compare")
    if out is not None:
        require("seta.compare with out=", "matplotlib", extra="compare")
    classes = None if strata is None else classes_of(strata, check_dataset(dataset))
    if fraction is not None:
        dataset, classes = part_of(dataset, fraction, classes, options)
    epochs = integer("epochs", epochs, 1, "the length of full training")
    batch_size = integer("batch_size", batch_size, 1, "the samples of a batch")
    sizes = Steps(
        check_dataset(dataset),
        batch_size,
        Group().size,
        drop_last=True,
    )
    planned = planned_runs(
        contenders_of(methods, budgets),
        seeds_of(seeds),
        sizes,
        epochs,
    )
    check_classes(planned, classes)
    fixed = {
        "n": sizes.n,
        "epochs": epochs,
        "batch_size": batch_size,
        "ranks": sizes.ranks,
        "fraction": None if fraction is None else float(fraction),
        "strata": None if classes is None else describe(classes),
        **{name: plain(value) for name, value in options.items() if name not in LOADING},
    }
    given = {name: plain(value) for name, value in (settings or {}).items()}
    if taken := sorted(given.keys() & {*fixed, "policy"}):
        raise ValueError(f"settings must have other names than {taken[0]!r}, which is looked at")
    training = Training(
        run=run,
        dataset=dataset,
        epochs=epochs,
        sizes=sizes,
        loader=loader,
        options=options,
        strata=classes,
        settings=fixed | given,
        source=source_of(run),
    )
    if jobs > 1:
        check_sent(run=run, loader=loader, **options)
    lower = [lower_is_better] if isinstance(lower_is_better, str) else lower_is_better
    runs = Runs(training, planned, lower, until, fraction, title)
    return runs.make(None if out is None else Path(out), jobs, progress)
