"""One name for one thing: docs/arguments.md is made from the signatures, and they agree.

python -m tests.integrations.test_vocabulary    # writes the page's table again
"""

import importlib
import inspect
from pathlib import Path

from seta import Pruner
from seta.torch import PrunedDataLoader

PAGE = Path(__file__).resolve().parents[2] / "docs" / "arguments.md"
MARKS = ("<!-- made from the signatures -->\n", "<!-- end -->\n")
NONE = inspect.Parameter.empty


def of(name, *, hands_on=None):
    """Returns the arguments of a class of `seta.integrations`, and those that it hands on."""
    module, _, attribute = name.rpartition(".")
    function = getattr(importlib.import_module(f"seta.integrations.{module}"), attribute)
    return {**arguments(function), **(arguments(hands_on) if hands_on else {})}


def arguments(function):
    """Returns the arguments of a function by name, with their defaults."""
    found = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {one.name: one.default for one in found if one.kind in kinds}


def columns():
    return {
        "`Pruner`": arguments(Pruner),
        "`PrunedDataLoader`": arguments(PrunedDataLoader),
        "[Accelerate](accelerate.md)": of("accelerate.PrunedAccelerateLoader"),
        "[Trainer, TRL](transformers.md)": of("transformers.PruningArguments"),
        "[Lightning](lightning.md)": {
            **arguments(PrunedDataLoader),  # of `loader(...)`, but for those below
            **of("lightning.PruningCallback"),
        },
        "[Ray](ray.md)": of("ray.PrunedRayLoader", hands_on=PrunedDataLoader),
        "[streams](streams.md)": of("streams.PrunedStream"),
    }


THEIRS = {  # what a framework has a word of its own for
    "[Accelerate](accelerate.md)": {"accumulation": "the accelerator's"},
    "[Trainer, TRL](transformers.md)": {
        "seed": "yes; default `data_seed`, else `seed`",
        "epochs": "`num_train_epochs`",
        "steps": "`max_steps`",
        "batch_size": "`per_device_train_batch_size`",
        "drop_last": "`dataloader_drop_last`",
        "accumulation": "`gradient_accumulation_steps`",
        "collate_fn": "`data_collator`",
    },
    "[Lightning](lightning.md)": {
        "epochs": "`max_epochs`",
        "accumulation": "`accumulate_grad_batches`",
        "process_group": "the strategy's",
        "sharding": "",
        "steps": "",
        "with_indices": "yes",
    },
}

MEANS = {
    "policy": "the method, or its name",
    "epochs": "length of the run",
    "steps": "the same in batches, with a budget",
    "budget": "share of full training's sample visits",
    "seed": "seed of all random choices",
    "batch_size": "samples per batch, on each rank",
    "drop_last": "drop the remainder of an epoch that keeps every sample",
    "accumulation": "batches per optimizer step",
    "collate_fn": "makes a batch of rows",
    "generator": "draws the workers' seeds",
    "with_indices": "yield `(indices, batch)`",
    "index_key": "key of the index in each sample",
    "always_keep": "samples that are never pruned",
    "losses": "losses to start from",
    "strata": "class of each sample",
    "reorder": "function that reorders an epoch",
    "on_epoch": "called with each epoch's row",
    "count_kept": "count how often each sample is kept",
    "track": "record visits, mean and spread of each sample's losses",
    "threads": "threads that select the samples",
    "process_group": "processes that train together",
    "sharding": "replicated or sharded losses",
    "changed": "settings that may differ from the loaded state",
}

REQUIRED = {"budget"}  # frameworks ask for the number of steps, so there it is required
OPTIONS = {"drop_last"}  # of torch's DataLoader, handed on by those that have **options


def table():
    found = columns()
    lines = ["| argument | what it is | default | " + " | ".join(found) + " |"]
    lines.append("| --- " * (len(found) + 3) + "|")
    for name, meaning in MEANS.items():
        default = "".join(sorted(defaults_of(name, found)))
        default = "" if name == "policy" else f"`{default}`"
        cells = [cell(name, column, own) for column, own in found.items()]
        lines.append(f"| `{name}` | {meaning} | {default} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def defaults_of(name, found):
    """Returns the defaults that an argument has, but where a framework has a word of its own."""
    return {
        repr(own[name])
        for column, own in found.items()
        if own.get(name, NONE) is not NONE and name not in THEIRS.get(column, {})
    } or ({"False"} if name in OPTIONS else set())


def cell(name, column, own):
    if name in THEIRS.get(column, {}):
        return THEIRS[column][name]
    if name not in own:
        return "yes" if name in OPTIONS and column != "`Pruner`" else ""
    return "required" if name in REQUIRED and own[name] is NONE else "yes"


def test_the_page_is_made_from_the_signatures():
    _, rest = PAGE.read_text().split(MARKS[0])
    assert rest.split(MARKS[1])[0] == table(), "python -m tests.integrations.test_vocabulary"


def test_an_argument_has_one_default_everywhere():
    found = columns()
    for name in MEANS:
        assert len(defaults_of(name, found)) == 1, name


def test_every_argument_that_two_have_is_in_the_table():
    own = [set(arguments) for arguments in columns().values()]
    shared = {name for one in own for name in one if sum(name in other for other in own) > 1}
    assert shared - {"dataset", "policy"} <= MEANS.keys() - {"policy"} | {"dataset"}


if __name__ == "__main__":
    head, rest = PAGE.read_text().split(MARKS[0])
    PAGE.write_text(head + MARKS[0] + table() + MARKS[1] + rest.split(MARKS[1])[1])
