"""To engines a PrunedDataLoader is a torch DataLoader; what would rebuild it is refused."""

import inspect
import typing

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
    default_collate,
)

import seta
from seta.torch import (
    IndexedCollate,
    IndexedDataset,
    Loop,
    PrunedDataLoader,
    PrunedSampler,
    indices_of,
)
from seta.torch.loader import LoaderOptions
from tests.torch.helpers import Tuples, looked_at, samples_of, with_text


def make(**options):
    return PrunedDataLoader(Tuples(40), "Random", epochs=2, **{"batch_size": 4, **options})


OPTIONS = {
    "batch_size": 4,
    "num_workers": 2,
    "pin_memory": False,
    "drop_last": True,
    "timeout": 60,
    "worker_init_fn": print,
    "prefetch_factor": 3,
    "persistent_workers": True,
    "collate_fn": with_text,
}


def test_it_is_a_dataloader_with_all_that_engines_ask_of_one():
    generator = torch.Generator()
    loader = make(generator=generator, multiprocessing_context="fork", **OPTIONS)
    assert isinstance(loader, DataLoader)
    for name, value in OPTIONS.items():
        assert getattr(loader, name) == value
    assert loader.generator is generator
    assert loader.multiprocessing_context.get_start_method() == "fork"
    assert type(loader.dataset) is Tuples
    assert isinstance(loader.batch_sampler, BatchSampler)
    assert loader.batch_sampler.sampler is loader.sampler
    assert (loader.batch_sampler.batch_size, loader.batch_sampler.drop_last) == (4, True)
    assert len(loader.batch_sampler) == len(loader)
    assert len(loader.sampler) == loader.pruner.kept
    plain = DataLoader(Tuples(40))
    for name in (name for name in vars(plain) if not name.startswith("_")):
        assert hasattr(loader, name), name
    assert isinstance(make().generator, torch.Generator)


def test_what_torch_guards_stays_guarded():
    for name in ("batch_size", "sampler", "batch_sampler", "dataset"):
        with pytest.raises(ValueError, match=f"{name} attribute should not be set after"):
            setattr(make(), name, None)


REBUILDS = {
    "sampler": lambda loader: DataLoader(loader.dataset, batch_size=4, sampler=loader.sampler),
    "batch sampler": lambda loader: DataLoader(loader.dataset, batch_sampler=loader.batch_sampler),
    "a plan to deal out": lambda loader: DataLoader(
        loader.dataset, sampler=DistributedSampler(list(loader.sampler), 2, 0)
    ),
}


@pytest.mark.parametrize("rebuild", REBUILDS)
def test_a_loader_made_of_its_parts_is_refused_when_it_asks_for_samples(rebuild):
    message = r"PrunedDataLoader were asked for by another loader.*seta\.integrations"
    with pytest.raises(RuntimeError, match=message):
        next(iter(REBUILDS[rebuild](make())))


def test_accelerate_is_told_where_its_loaders_are():
    accelerate = pytest.importorskip("accelerate", reason="Accelerate is not here")
    prepared = accelerate.Accelerator(cpu=True).prepare(make())
    with pytest.raises(RuntimeError, match=r"accelerator\.prepare.*seta\.integrations"):
        next(iter(prepared))


# Made from another loader.


def from_loader(*, dataset=None, policy="Full", epochs=1, **options):
    loader = DataLoader(Tuples(30) if dataset is None else dataset, **{"batch_size": 4, **options})
    return PrunedDataLoader.from_loader(loader, policy, epochs=epochs)


def samples_in(loader):
    return [s for batch in looked_at(loader) for s in samples_of(batch).tolist()]


def test_a_loader_is_taken_over_with_its_options():
    options = {name: value for name, value in OPTIONS.items() if name != "worker_init_fn"}
    loader = from_loader(shuffle=True, multiprocessing_context="fork", **options)
    for name, value in options.items():
        assert getattr(loader, name) == value
    assert loader.multiprocessing_context.get_start_method() == "fork"
    batches = list(looked_at(loader))
    assert [len(samples_of(batch)) for batch in batches] == [4] * 7
    assert len({s for batch in batches for s in samples_of(batch).tolist()}) == 28


@pytest.mark.parametrize(
    "options, shuffled",
    [
        ({}, False),
        ({"shuffle": True}, True),
        ({"sampler": SequentialSampler(range(30))}, False),
        ({"sampler": RandomSampler(range(30))}, True),
        ({"sampler": DistributedSampler(range(30), 1, 0)}, True),
        ({"sampler": DistributedSampler(range(30), 1, 0, shuffle=False)}, False),
    ],
)
def test_its_order_is_taken_over(options, shuffled):
    seen = samples_in(from_loader(**options))
    assert sorted(seen) == list(range(30))
    assert (seen != sorted(seen)) is shuffled


def test_arguments_take_precedence_over_the_loaders_options():
    loader = DataLoader(Tuples(30), batch_size=4, collate_fn=with_text)
    pruned = PrunedDataLoader.from_loader(
        loader, seta.Random(0.5), epochs=3, batch_size=5, budget=0.5, shuffle=True, seed=4
    )
    assert (pruned.batch_size, pruned.total_steps, pruned.pruner.seed) == (5, 9, 4)
    assert pruned.collate_fn is with_text


def test_the_workers_of_a_loader_may_be_left_out():
    stock = DataLoader(
        Tuples(30), batch_size=4, num_workers=2, persistent_workers=True, prefetch_factor=3,
        timeout=9, multiprocessing_context="fork",
    )  # fmt: skip
    pruned = PrunedDataLoader.from_loader(stock, "Full", epochs=1, num_workers=0)
    assert sorted(samples_in(pruned)) == list(range(30))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(30))


def batches_of_two():
    return BatchSampler(SequentialSampler(range(30)), 2, drop_last=False)


@pytest.mark.parametrize(
    "make_loader, error, message",
    [
        (
            lambda: DataLoader(Tuples(30), sampler=WeightedRandomSampler([1.0] * 30, 30)),
            ValueError,
            r"got one with WeightedRandomSampler, which takes some.*strata=.*multiply the los",
        ),
        (
            lambda: DataLoader(Tuples(30), batch_sampler=batches_of_two()),
            ValueError,
            "or a batch_sampler of its own: give PrunedDataLoader its dataset",
        ),
        (
            lambda: DataLoader(Tuples(30), batch_size=None),
            ValueError,
            "a plain one with a batch_size, got one that has none",
        ),
        (
            lambda: DataLoader(Tuples(30), sampler=RandomSampler(range(30), num_samples=10)),
            ValueError,
            "got one with RandomSampler, which takes some",
        ),
        (
            lambda: DataLoader(Tuples(30), sampler=RandomSampler(range(30), replacement=True)),
            ValueError,
            "got one with RandomSampler",
        ),
        (
            lambda: DataLoader(Tuples(30), sampler=SequentialSampler(range(10))),
            ValueError,
            "got one with SequentialSampler",
        ),
        (
            lambda: DataLoader(Tuples(30), sampler=DistributedSampler(range(30), 2, 0)),
            ValueError,
            r"got a DistributedSampler of num_replicas=2 where 1 train: call init_process_group",
        ),
        (lambda: DataLoader(Stream()), TypeError, "must not be iterable-style, got Stream"),
        (lambda: [1, 2], TypeError, "loader must be a torch DataLoader, got list"),
        (make, ValueError, "got a PrunedDataLoader: it is pruned already"),
    ],
)
def test_a_loader_that_chooses_samples_is_refused(make_loader, error, message):
    with pytest.raises(error, match=message):
        PrunedDataLoader.from_loader(make_loader(), "Full", epochs=1)


def test_a_subset_is_a_dataset_like_others():
    subset = Subset(Tuples(100), range(50, 80))
    assert sorted(samples_in(from_loader(dataset=subset))) == list(range(50, 80))


# What editors and type checkers see.


def test_the_options_have_names_and_types():
    hints = typing.get_type_hints(PrunedDataLoader.__init__)
    assert hints["batch_size"] is int and hints["with_indices"] is bool
    options = typing.get_type_hints(LoaderOptions)
    named = inspect.signature(PrunedDataLoader).parameters.keys()
    for name in inspect.signature(DataLoader).parameters:
        if name not in ("dataset", "sampler", "batch_sampler"):
            assert name in options or name in named, name
    assert options["num_workers"] is int
    assert "PrunedDataLoader" in dir(seta) and seta.PrunedDataLoader is PrunedDataLoader


class Foreign(Loop):
    """A loader of somebody's own."""

    def __init__(self, sampler_of, packed=None):
        pruner = seta.Pruner(30, "Random", epochs=2, batch_size=5, budget=0.5)
        super().__init__(pruner)
        self._packed = packed
        self._loader = DataLoader(
            IndexedDataset(Tuples(30)),
            batch_size=5,
            sampler=sampler_of(pruner),
            collate_fn=IndexedCollate(default_collate),
        )

    def walk(self):
        for packed, batch in self._loader:
            yield packed if self._packed is None else self._packed(indices_of(packed)), batch


def test_a_loader_over_other_samples_than_those_chosen_is_refused():
    loader = Foreign(lambda pruner: RandomSampler(range(30)))
    with pytest.raises(RuntimeError, match=r"more than the 3 batches .* over a PrunedSampler"):
        for batch in loader:
            loader.update(batch[0].float())


@pytest.mark.parametrize("packed", [torch.from_numpy, list, np.uint32, np.ndarray.tolist])
def test_indices_may_come_as_any_integers(packed):
    loader = Foreign(PrunedSampler, lambda indices: packed(indices.copy()))
    for batch in loader:
        loader.update(batch[0].float())
    seen = np.flatnonzero(~np.isnan(loader.pruner.losses))
    assert len(seen) == 15 and (loader.pruner.losses[seen] == seen).all()


@pytest.mark.parametrize("packed", [str, lambda indices: indices + 0.5, lambda indices: [indices]])
def test_batches_without_indices_are_told_so(packed):
    loader = Foreign(PrunedSampler, packed)
    with pytest.raises(TypeError, match="after the indices of its samples, as .indices, batch."):
        next(iter(loader))


def test_a_generator_of_the_users_own_goes_along():
    generator = torch.Generator()
    stock = DataLoader(Tuples(30), batch_size=5, shuffle=True, generator=generator)
    assert PrunedDataLoader.from_loader(stock, "Full", epochs=1).generator is generator
