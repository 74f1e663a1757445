"""A loader's state goes through all that torch saves and sends with, and the run goes on alike."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from seta.torch import PrunedDataLoader
from seta.torch.state import with_arrays, with_tensors
from tests.combinations import some_of
from tests.torch.helpers import Tuples, samples_of

N = 200
# Name: what the loader is made with, and how many batches of the second epoch are trained.
RUNS = {
    "between epochs": ({"policy": "SeTa"}, 0),
    "in mid-epoch": ({"policy": "SeTa", "budget": 0.7}, 3),
    "with weights, counts and a score": ({"policy": "InfoBatch", "count_kept": True}, 2),
    "with columns": ({"policy": "UCB"}, 2),
    "of many epochs": ({"policy": "SeTa", "epochs": 70_000}, 2),
}


def make(policy, epochs=5, **options):
    return PrunedDataLoader(Tuples(N), policy, epochs=epochs, batch_size=10, **options)


def answer(loader, batch):
    samples = samples_of(batch)
    loader.update(torch.from_numpy(samples % 17).float() + loader.epoch)
    return samples.tolist()


def walk(loader):
    return [answer(loader, batch) for batch in loader]


def trained(options, batches):
    """A loader in its second epoch, or at its beginning."""
    loader = make(**options)
    walk(loader)
    for _, batch in zip(range(batches), loader, strict=False):
        answer(loader, batch)
    return loader


def by_torch(state, _):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def by_mapped_file(state, ways):
    torch.save(state, ways.folder / "state.pt")
    return torch.load(ways.folder / "state.pt", weights_only=True, mmap=True)


def by_pickle(state, _):
    return pickle.loads(pickle.dumps(state))


def by_copy(state, _):
    return copy.deepcopy(state)


def by_default_convert(state, _):
    return torch.utils.data.default_convert(state)


def by_gather(state, _):
    found = [None]
    dist.all_gather_object(found, state)
    return found[0]


def by_checkpoint(state, ways):
    dcp.save({"loader": state}, checkpoint_id=ways.folder / "dcp")
    template = {"loader": ways.fresh().state_dict()}
    dcp.load(template, checkpoint_id=ways.folder / "dcp")
    return template["loader"]


def by_async_checkpoint(state, ways):
    dcp.async_save({"loader": state}, checkpoint_id=ways.folder / "dcp").result()
    template = {"loader": ways.fresh().state_dict()}
    dcp.load(template, checkpoint_id=ways.folder / "dcp")
    return template["loader"]


def check_that_it_goes_on(loader, options, batches):
    """As a run does that was never saved: the rest of the epoch, and one more."""
    whole = make(**options)
    walk(whole)
    assert walk(loader) == walk(whole)[batches:]
    assert walk(loader) == walk(whole)
    assert np.array_equal(loader.pruner.losses, whole.pruner.losses, equal_nan=True)


class Ways:
    def __init__(self, folder, fresh):
        self.folder, self.fresh = folder, fresh


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    store = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


# torch's own: it warns of its storages, of one process, of its sharded tensors.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("group")
@some_of(
    "run, way",
    RUNS,
    [by_torch, by_mapped_file, by_pickle, by_copy, by_default_convert, by_gather, by_checkpoint,
     by_async_checkpoint],
)  # fmt: skip
def test_a_run_goes_on_from_a_state_that_went_through(tmp_path, run, way):
    options, batches = RUNS[run]
    loader = trained(options, batches)
    state = way(loader.state_dict(), Ways(tmp_path, lambda: make(**options)))
    other = make(**options)
    other.load_state_dict(state)
    check_that_it_goes_on(other, options, batches)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("group")
def test_a_distributed_checkpoint_takes_the_loader_itself(tmp_path):
    loader = trained({"policy": "SeTa"}, 3)
    dcp.save({"loader": loader}, checkpoint_id=tmp_path)
    other = make("SeTa")
    dcp.load({"loader": other}, checkpoint_id=tmp_path)
    check_that_it_goes_on(other, {"policy": "SeTa"}, 3)


ARRAYS = [
    np.frombuffer(bytes([0, 1] * 16), kind).copy()
    for kind in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "?")
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.dtype.name)
def test_arrays_come_back_with_their_types_wherever_they_are(array):
    state = {"a": array, "b": {"uint16": array}, "c": [{"d": (array[:0], None)}, 1, "x"], "e": {}}
    for way in (by_torch, by_pickle, by_copy):
        back = with_arrays(way(with_tensors(state), None))
        for one, own in (
            (back["a"], array),
            (back["b"]["uint16"], array),
            (back["c"][0]["d"][0], array[:0]),
        ):
            assert one.dtype == own.dtype
            assert np.array_equal(one, own)
        assert back["c"][1:] == [1, "x"]
        assert back["e"] == {}
        assert back["c"][0]["d"][1] is None


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.dtype.name)
def test_nothing_is_copied(array):
    back = with_arrays(with_tensors({"a": array}))["a"]
    assert np.shares_memory(back, array)
