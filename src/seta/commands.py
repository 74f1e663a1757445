"""The commands of `seta`: what they take, and how their errors are told.

Under `cli`, over everything else. What a command needs is imported when it runs, so that
`seta --help` takes a fraction of a second and needs neither torch nor matplotlib.
"""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import getdoc, signature
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

import seta
from seta import policies
from seta.demo.settings import CASES, METHODS
from seta.extras import MissingExtra, require
from seta.terminal import console_of, waiting

__all__ = ["app"]

app = typer.Typer(
    help="Train on the samples that are worth it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_NEEDED = ("torch", "sklearn", "scipy", "matplotlib")
_INTERRUPTED = 130


def _version(asked: bool) -> None:
    """Print the version and leave."""
    if asked:
        typer.echo(f"seta {seta.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Train on the samples that are worth it."""


@app.command(short_help="List the methods.")
def methods() -> None:
    """List the methods, with their settings and where they come from."""
    console = console_of()
    for name, method in policies.REGISTRY.items():
        policy = method()
        values = ((one, getattr(policy, one)) for one in signature(method).parameters)
        settings = ", ".join(
            f"{one}={type(value).__name__ + '()' if callable(value) else repr(value)}"
            for one, value in values
        )
        console.print(Text(name, style="bold"))
        for text in (*_described(method), f"Settings: {settings or 'none'}"):
            console.print(Padding(Text(text), (0, 0, 0, 2), expand=False))


def _described(method: Any) -> list[str]:
    """The first sentence of a method's docstring, and its source if it names one."""
    text = " ".join((getdoc(method) or "").split())
    first = text.split(". ")[0].rstrip(".") + "."
    source = re.search(r"Source: .*?(arXiv [\d.]+\d|(?=;|\. Difference))", text)
    return [first, f"{source[0]}."] if source else [first]


@app.command(short_help="Compare methods on real images.")
def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled images to train on: .parquet (Hugging Face layout) or .npz "
            "with x and y. By default scikit-learn's digits."
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Labelled images to measure on. By default a part of --data is held out."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the results; runs that are there are not made again.")
    ] = Path("seta-demo"),
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"A method to compare; may be repeated. One of {', '.join(METHODS)}. By default "
            "a few that suit the case. Full, and Full at equal cost, are always there.",
        ),
    ] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What is made of the images that are trained on; may be repeated: "
            + ", ".join(f"{name} ({one.about})" for name, one in CASES.items())
            + ". By default plain, and of the digits wrong, too.",
        ),
    ] = None,
    budget: Annotated[
        list[float] | None,
        typer.Option(
            metavar="SHARE",
            help="Share of full training's sample visits to train; may be repeated. By default "
            "0.5.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs of full training. By default 10, of files 15; "
            + ", ".join(f"{name}: {one.epochs}" for name, one in CASES.items() if one.epochs)
            + "."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Runs per method and budget. By default 5; files: 3."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Images of --data to train on at most; 0: all. By default as many as take minutes."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda. By default a GPU if there is one.")
    ] = None,
) -> None:
    """Train a small net with and without pruning, and compare: `seta compare`, ready to run.

    Without options it takes about two minutes on two cores. Stop it and give the same command
    again: it goes on.
    """
    with _told_kindly():
        require("seta demo", *_NEEDED)
        console = console_of()
        with waiting(console, "loading torch"):
            from seta.demo.driver import run_demo
        from seta.demo.settings import DemoSettings, named

        settings = DemoSettings(
            out=out,
            data=data,
            test=test,
            cases=named(case or (), "case", CASES),
            methods=named(method or (), "method", METHODS),
            budgets=tuple(dict.fromkeys(budget or (0.5,))),
            epochs=epochs,
            seeds=seeds,
            limit=limit,
            device=device,
        )
        code = run_demo(settings, console)
    raise typer.Exit(code)


@app.command(short_help="Say what a run will take.")
def plan(
    samples: Annotated[
        str | None, typer.Option(metavar="N", help="Samples of the dataset: 1e9.")
    ] = None,
    epochs: Annotated[str | None, typer.Option(metavar="N", help="Epochs of the run.")] = None,
    ranks: Annotated[
        str, typer.Option(metavar="N", help="Training processes, one for each GPU.")
    ] = "1",
    batch_size: Annotated[str, typer.Option(metavar="N", help="Samples per step and rank.")] = "1",
    method: Annotated[
        str, typer.Option(metavar="NAME", help="Method: see `seta methods`.")
    ] = "SeTa",
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Classes of the samples, for a method that looks at them (RCAP): 10."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Share of full training's sample visits to pay: 0.6. Without, lengths are "
            "estimated.",
        ),
    ] = None,
    throughput: Annotated[
        str | None,
        typer.Option(metavar="N", help="Samples per second that a rank trains, for the hours."),
    ] = None,
    ranks_per_node: Annotated[str, typer.Option(metavar="N", help="Ranks of a machine.")] = "8",
    sharding: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="replicated: each rank has all losses. sharded: each has its part. By default as "
            "the loader does.",
        ),
    ] = None,
    drop_last: Annotated[
        bool,
        typer.Option(
            "--drop-last", help="Leave out what is no whole batch where all samples are kept."
        ),
    ] = False,
    bandwidth: Annotated[
        str | None,
        typer.Option(
            metavar="GB/S", help="Network of a rank in GB/s, for the time of the exchange."
        ),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="Price of an hour of a rank, in any currency: 2.5. Needs --throughput.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a run will take, before it starts: samples, steps, memory, bytes, time.

    Times this machine for some seconds, longer with thousands of classes. Numbers may be written
    1000000, 1_000_000 or 1e6.
    """
    with _told_kindly():
        from seta.engine.parallel import available_threads
        from seta.plan import Plan, calibrate, read
        from seta.report.plan import plan_dict, print_plan

        options = {
            "samples": samples,
            "epochs": epochs,
            "ranks": ranks,
            "batch-size": batch_size,
            "method": method,
            "classes": classes,
            "budget": budget,
            "throughput": throughput,
            "ranks-per-node": ranks_per_node,
            "sharding": sharding,
            "bandwidth": bandwidth,
            "price": price,
        }
        planned = Plan(read(options, drop_last=drop_last), available_threads())
        console = console_of()
        with waiting(console, "timing this machine"):
            calibration = calibrate(planned)
        if as_json:
            typer.echo(json.dumps(plan_dict(planned, calibration), indent=1))
        else:
            print_plan(planned, calibration, console)


@app.command(short_help="Compare methods on your training.")
def compare(
    run: Annotated[
        str,
        typer.Argument(
            help="Your training, run(loader, seed), which returns what it measured: "
            "my_training.py:run."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="The data set, or a function that makes it: my_training.py:train_set, or a name "
            "beside the function."
        ),
    ],
    epochs: Annotated[int, typer.Option(help="Epochs of full training.")],
    batch_size: Annotated[int, typer.Option(help="Samples per batch, on each rank.")],
    methods: Annotated[
        str, typer.Option(help="Methods, with commas: see `seta methods`.")
    ] = "Learnable,SeTa",
    budgets: Annotated[
        str, typer.Option(help="Shares of full training's sample visits, with commas.")
    ] = "0.5",
    seeds: Annotated[int, typer.Option(help="Runs of each method.")] = 3,
    out: Annotated[
        Path, typer.Option(help="Folder of the runs; those that are there are not made again.")
    ] = Path("seta-compare"),
    strata: Annotated[
        str | None,
        typer.Option(help="The class of each sample, named as --data, for methods that need it."),
    ] = None,
    loader: Annotated[
        str | None,
        typer.Option(help="What makes the loader of a run, named as --data. [PrunedDataLoader]"),
    ] = None,
    lower_is_better: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Figures that are better when lower; `all` or `none`. By default by their names.",
        ),
    ] = None,
    until_told_apart: Annotated[
        bool,
        typer.Option("--until-told-apart", help="End a method once its interval leaves out zero."),
    ] = False,
    fraction: Annotated[
        float | None, typer.Option(help="Part of the data set, for a pilot: 0.1.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, a process each.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load, of each loader.")] = 0,
) -> None:
    """Compare methods on your own training, beside full training for fewer epochs.

    Stop it and give the same command again: it goes on.
    """
    with _told_kindly():
        require("seta compare", "torch", "scipy", "matplotlib", extra="compare")
        from seta.comparison import command

        lower: bool | list[str] | None = None
        if lower_is_better is not None:
            lower = {"all": True, "none": False}.get(lower_is_better, split(lower_is_better))
        code = command.run(
            run,
            data,
            strata,
            loader,
            out=out,
            epochs=epochs,
            batch_size=batch_size,
            methods=split(methods),
            budgets=_numbers("--budgets", budgets),
            seeds=seeds,
            lower_is_better=lower,
            until="told apart" if until_told_apart else None,
            fraction=fraction,
            jobs=jobs,
            num_workers=workers,
        )
    raise typer.Exit(code)


@app.command(short_help="Write a page on a run.")
def inspect(
    run: Annotated[
        list[Path],
        typer.Argument(
            help="The state of a run: a file of seta.save or torch.save, a checkpoint that holds "
            "one, or the folder of a Trainer's. Of a sharded table the files of all ranks.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page that is written.")] = Path("report.html"),
    data: Annotated[
        str | None,
        typer.Option(
            help="The data set that was trained on, or a function that makes it: "
            "my_training.py:train_set."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="The class of each sample, named as --data. By default what the data set knows."
        ),
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            help="Makes of an item what is shown of it, named as --data: the decode of a tokenizer."
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Wait for the file, write the page again whenever it changes; Ctrl-C ends it.",
        ),
    ] = False,
) -> None:
    """Write a page on a run: what it left out, and which samples are hard, suspect or starved."""
    with _told_kindly():
        require("seta inspect", "jinja2", "vl_convert", "PIL", extra="inspect")
        from seta.report.inspection import follow as pages

        pages.run(
            run,
            out=out,
            data=data,
            classes=classes,
            show=show,
            title=title,
            follow=follow,
            console=console_of(),
        )


def _numbers(option: str, text: str) -> list[float]:
    from seta.comparison.target import TargetError

    try:
        return [float(part) for part in split(text)]
    except ValueError as error:
        raise TargetError(f"{option} must be numbers with commas, 0.7,0.5; got {text!r}") from error


def split(text: str) -> list[str]:
    """Returns what is typed with commas in between."""
    return [part.strip() for part in text.split(",") if part.strip()]


def heed_interrupts() -> None:
    """Lets `kill -INT` stop a background job, which a shell starts with interrupts ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _told_kindly() -> Iterator[None]:
    """Turn errors that the user can mend into a line on standard error and exit code 2."""
    from seta.comparison.target import TargetError
    from seta.demo.settings import DemoError
    from seta.plan.request import PlanError

    heed_interrupts()
    try:
        yield
    except (TargetError, DemoError, PlanError, MissingExtra) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise typer.Exit(_INTERRUPTED) from None
