"""fastai: real fits, in which the recorded loss of a sample is a function of its index alone."""

import random
import warnings

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader as TorchLoader

import seta
from tests.engines.pages import run_page

pytest.importorskip("fastai")
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", r".*torch\.jit\.script", DeprecationWarning)
    warnings.filterwarnings("ignore", "The 'mode.chained_assignment' option")
    from fastai.callback import mixup, progress, schedule, training  # noqa: F401
    from fastai.callback.core import (
        Callback,
        CancelBatchException,
        CancelFitException,
        CancelTrainException,
    )
    from fastai.callback.fp16 import MixedPrecision
    from fastai.data.core import DataLoaders, Datasets, TfmdDL
    from fastai.data.load import DataLoader, SkipItemException
    from fastai.learner import Learner, load_learner
    from fastai.losses import BaseLoss, CrossEntropyLossFlat
    from fastai.optimizer import SGD, OptimWrapper

    from seta.integrations.fastai import FastaiLoop, PruningCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning"),  # learn.load
    pytest.mark.filterwarnings("ignore:You are shadowing an attribute:UserWarning"),  # fastai's own
]
N = 60


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    """Runs in a folder of its own, as `lr_find` saves the model."""
    monkeypatch.chdir(tmp_path)


def value_of(index):
    """The loss of a sample."""
    return 1 + index / 100


class Rows:
    """A dataset whose samples are their own indices; `broken` ones cannot be read."""

    def __init__(self, broken=()):
        self.broken = broken

    def __len__(self):
        return N

    def __getitem__(self, index):
        if index >= N:
            raise IndexError(index)
        if index in self.broken:
            raise SkipItemException
        return torch.tensor([float(index)]), torch.tensor(float(index))


class Same(torch.nn.Module):
    """Returns its input, and has a parameter to train."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + 0 * self.weight


class Known:
    """The loss `value_of(index)`, if input and target are of the same sample."""

    reduction = "mean"

    def __call__(self, prediction, target):
        assert (prediction[:, 0] == target).all()
        losses = value_of(prediction[:, 0])
        return losses if self.reduction == "none" else losses.mean()


def own(workers, drop_last=True):
    return DataLoader(Rows(), bs=10, shuffle=True, num_workers=workers, drop_last=drop_last)


def transformed(workers):
    """A `TfmdDL` over `Datasets`, whose transforms change samples and batches."""
    halves = Datasets(
        list(range(N)), [[lambda i: torch.tensor([i / 2])], [lambda i: torch.tensor(i / 2)]]
    )

    def doubled(tensor):  # fastai calls it for inputs and for targets
        return tensor * 2

    return TfmdDL(
        halves, bs=10, shuffle=True, drop_last=True, num_workers=workers, after_batch=doubled
    )


def plain(workers):
    return TorchLoader(Rows(), batch_size=10, shuffle=True, num_workers=workers)


def learner(train, pruning, *, model=None, loss=None, cbs=(), **options):
    made = Learner(
        DataLoaders(train, own(0, drop_last=False)),
        Same() if model is None else model,
        loss_func=Known() if loss is None else loss,
        cbs=[pruning, *cbs],
        **options,
    )
    made.remove_cb(progress.ProgressCallback)
    made.logger = lambda _: None
    return made


def assert_known(pruner):
    """Each loss in the table is that of its sample."""
    seen = ~np.isnan(pruner.losses)
    assert seen.any()
    expected = value_of(np.arange(N, dtype=np.float32))
    assert (pruner.losses[seen] == expected[seen]).all()


class Looks(Callback):
    """Validates, or predicts, within a fit."""

    order = 60

    def __init__(self, event, look):
        self.event, self.look, self.busy = event, look, False

    def __call__(self, event_name):
        if event_name == self.event and not self.busy:
            self.busy = True
            self.look(self.learn)
            self.busy = False
        return super().__call__(event_name)


@pytest.mark.parametrize("look", [lambda learn: learn.validate(), lambda learn: learn.get_preds()])
def test_a_validation_within_a_fit_does_not_begin_the_run_anew(look):
    pruning = PruningCallback("RS2", budget=0.5, count_kept=True)
    looks = Looks("after_epoch", look)
    learn = learner(own(0), pruning, cbs=[looks])
    learn.fit(4, 0.1)
    assert [row["trained"] for row in pruning.pruner.history] == [30] * 4
    assert pruning.pruner.kept_counts.sum() == 120
    assert_known(pruning.pruner)
    assert isinstance(learn.loss_func, Known)
    learn.fit(2, 0.1)  # a new run, as ever
    assert [row["trained"] for row in pruning.pruner.history] == [30] * 2


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("made", [own, transformed, plain])
def test_losses_reach_their_samples(made, workers):
    pruning = PruningCallback("SeTa", budget=0.5)
    learner(made(workers), pruning).fit(4, 0.1)
    assert [row["trained"] for row in pruning.pruner.history] == [30] * 4
    assert_known(pruning.pruner)


@pytest.mark.parametrize("policy", ["InfoBatch", "SeTa"])
def test_a_fit_is_a_plain_loop(policy):
    """The same samples, order and weights, and bitwise the same model."""
    x = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
    rows = [(row, (row[0] > 0).long()) for row in x]

    def model():
        layer = torch.nn.Linear(4, 2)
        torch.nn.init.constant_(layer.weight, 0.1)
        torch.nn.init.zeros_(layer.bias)
        return layer

    pruning = PruningCallback(policy)
    train = DataLoader(rows, bs=10, shuffle=True, drop_last=True)
    learn = learner(
        train,
        pruning,
        model=model(),
        loss=CrossEntropyLossFlat(),
        opt_func=lambda groups, lr: OptimWrapper(groups, torch.optim.SGD, lr=lr),
    )
    learn.dls.loaders[1] = DataLoader(rows, bs=10)
    learn.fit(4, 0.1)

    loader = seta.PrunedDataLoader(rows, policy, epochs=4, batch_size=10, drop_last=True)
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(4):
        for inputs, targets in loader:
            loss = loader.update(cross_entropy(net(inputs), targets, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert (pruning.pruner.losses == loader.pruner.losses).all()
    assert torch.equal(learn.model.weight, net.weight)


def test_lr_find_eats_no_epoch_and_records_nothing():
    pruning = PruningCallback("SeTa", budget=0.5)
    learn = learner(own(0), pruning, loss=CrossEntropyLossFlat(), model=torch.nn.Linear(1, N))
    learn.dls.loaders = [DataLoader([(x, y.long()) for x, y in Rows()], bs=10)] * 2
    learn.lr_find(num_it=10, suggest_funcs=None, show_plot=False)
    with pytest.raises(RuntimeError, match="call it later"):
        _ = pruning.pruner
    learn.fit(2, 0.001)
    before = pruning.pruner.losses.copy()
    learn.lr_find(num_it=10, suggest_funcs=None, show_plot=False)
    assert np.array_equal(pruning.pruner.losses, before, equal_nan=True)
    assert len(pruning.pruner.history) == 2


def test_evaluation_is_not_pruned_and_not_recorded():
    pruning = PruningCallback("SeTa", budget=0.5)
    learn = learner(own(0), pruning)
    learn.fit(2, 0.1)
    before = pruning.pruner.losses.copy()
    predictions, _, losses = learn.get_preds(ds_idx=0, with_loss=True)
    assert predictions[:, 0].tolist() == list(range(N))
    assert torch.equal(losses, value_of(torch.arange(N)))
    assert learn.validate()[0] == pytest.approx(value_of(29.5))
    assert len(learn.dls.train) == 6
    assert np.array_equal(pruning.pruner.losses, before, equal_nan=True)


def test_one_cycle_ends_with_the_run_without_a_budget():
    def uneven(histogram, epoch, epochs):
        return seta.KeepCurve.constant(histogram, 0.9 if epoch % 2 else 0.2)

    pruning = PruningCallback(uneven)
    learn = learner(own(0), pruning)
    learn.fit_one_cycle(4, 0.1, div_final=1000)
    assert [row["trained"] for row in pruning.pruner.history] == [10, 50, 10, 50]
    rates = learn.recorder.hps["lr"]
    assert len(rates) == len(learn.recorder.losses) == 12
    assert rates[-1] < 0.01 < max(rates) <= 0.1


class StopAt(Callback):
    """Cancels the fit after some batches."""

    def __init__(self, batches):
        self.batches = batches

    def after_batch(self):
        if self.training and self.learn.train_iter == self.batches:
            raise CancelFitException


@pytest.mark.parametrize("batches", [1, 3, 4, 6, 7])
def test_a_resumed_fit_ends_bitwise_the_same(tmp_path, batches):
    def made():
        pruning = PruningCallback("InfoBatch", budget=0.5)
        model = torch.nn.Linear(1, N)
        torch.nn.init.constant_(model.weight, 0.01)
        torch.nn.init.zeros_(model.bias)
        learn = learner(own(0), pruning, loss=CrossEntropyLossFlat(), model=model, path=tmp_path)
        rows = [(x / N, y.long()) for x, y in Rows()]
        learn.dls.loaders = [DataLoader(rows, bs=10, drop_last=True, shuffle=True)] * 2
        return learn, pruning

    whole, reference = made()
    whole.fit_one_cycle(4, 0.1)

    learn, pruning = made()
    learn.fit_one_cycle(4, 0.1, cbs=StopAt(batches))
    learn.save("stopped")
    torch.save(pruning.state_dict(), tmp_path / "pruning.pt")

    learn, pruning = made()
    learn.load("stopped")
    pruning.load_state_dict(torch.load(tmp_path / "pruning.pt", weights_only=True))
    learn.fit_one_cycle(4, 0.1, start_epoch=batches // 3)
    assert np.array_equal(pruning.pruner.losses, reference.pruner.losses, equal_nan=True)
    assert torch.equal(learn.model.weight, whole.model.weight)
    assert [row["trained"] for row in pruning.pruner.history] == [30] * 4


def test_a_resumed_fit_names_its_epoch():
    pruning = PruningCallback("SeTa", budget=0.5)
    learn = learner(own(0), pruning)
    learn.fit(2, 0.1)
    pruning.load_state_dict(pruning.state_dict(), changed=["epochs"])
    with pytest.raises(ValueError, match="start_epoch=2"):
        learn.fit(4, 0.1)


def test_two_fits_in_a_row_share_the_losses():
    pruning = PruningCallback("SeTa", budget=0.5)
    learn = learner(own(0), pruning)
    learn.fit(3, 0.1)
    seen = ~np.isnan(pruning.pruner.losses)
    learn.fit(1, 0.1)
    assert [row["epoch"] for row in pruning.pruner.history] == [0]
    assert (~np.isnan(pruning.pruner.losses)[seen]).all()
    assert_known(pruning.pruner)


def test_another_learner_begins_without_the_losses_of_other_data():
    pruning = PruningCallback("SeTa", budget=0.5)
    learner(own(0), pruning).fit(3, 0.1)
    learner(own(0), pruning).fit(1, 0.1)  # a dataset of the same length
    assert np.isnan(pruning.pruner.losses).sum() == N - pruning.pruner.history[0]["trained"]


class Classes(BaseLoss):
    """A loss of fastai's own kind: the target, as a class index that MixUp does not blend."""

    y_int = True

    def __init__(self):
        self.func = Known()

    def __call__(self, prediction, target, **options):
        losses = value_of(target) + 0 * prediction[:, 0]
        return losses if self.reduction == "none" else losses.mean()


def test_mixup_records_the_losses_of_mixed_samples():
    mix, recorded, expected = mixup.MixUp(0.4), {}, {}

    class Spy(Callback):
        run_valid = False

        def after_pred(self):
            first, second = value_of(self.learn.yb[0]), value_of(mix.yb1[0])
            mixed = torch.lerp(second, first, mix.lam)
            expected.update(zip(self.learn.yb[0].int().tolist(), mixed.tolist(), strict=True))

    pruning = PruningCallback("SeTa", budget=0.5)
    learn = learner(own(0), pruning, loss=Classes(), cbs=[mix, Spy()])
    learn.fit(2, 0.1)
    recorded = dict(enumerate(pruning.pruner.losses.tolist()))
    assert len(expected) > 30
    assert all(recorded[index] == mixed for index, mixed in expected.items())
    assert isinstance(learn.loss_func, Classes)
    assert learn.loss_func.reduction == "mean"


def test_gradient_accumulation_and_mixed_precision():
    steps = []

    class Count(Callback):
        def after_step(self):
            steps.append(self.learn.train_iter)

    pruning = PruningCallback("SeTa", budget=0.5)
    extra = [training.GradientAccumulation(20), Count()]
    learner(own(0), pruning, cbs=extra, opt_func=SGD).fit(4, 0.1)
    assert len(steps) == 6  # of 12 batches
    assert [row["trained"] for row in pruning.pruner.history] == [30] * 4
    assert_known(pruning.pruner)


@pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning")
@pytest.mark.filterwarnings("ignore:.*torch.cuda.amp.GradScaler is enabled:UserWarning")
@pytest.mark.parametrize("mode", ["fp16", "bf16"])
def test_mixed_precision(mode):
    """On a CPU fastai turns it off; its callback is there all the same."""
    pruning = PruningCallback("SeTa", budget=0.5)
    learner(own(0), pruning, cbs=[MixedPrecision(mode)]).fit(2, 0.1)
    assert_known(pruning.pruner)


@pytest.mark.parametrize(
    ("cancel", "event", "trained"),
    [
        (CancelBatchException, "before_batch", 20),
        (CancelBatchException, "before_step", 30),  # its losses came before
        (CancelTrainException, "after_batch", 20),
    ],
)
def test_cancelled_batches(cancel, event, trained):
    class Cancel(Callback):
        run_valid = False

        def _second(self):
            if self.learn.iter == 1:
                raise cancel

    setattr(Cancel, event, Cancel._second)
    pruning = PruningCallback("SeTa", budget=0.5)
    learner(own(0), pruning, cbs=[Cancel()]).fit(3, 0.1)
    assert [row["trained"] for row in pruning.pruner.history] == [trained] * 3
    assert_known(pruning.pruner)


def test_an_interrupted_fit_leaves_the_learner_usable():
    class Stop(Callback):
        def after_pred(self):
            raise KeyboardInterrupt

    pruning = PruningCallback("SeTa", budget=0.5)
    learn = learner(own(0), pruning)
    with pytest.raises(KeyboardInterrupt):
        learn.fit(2, 0.1, cbs=Stop())
    assert learn.validate()[0] == pytest.approx(value_of(29.5))
    learn.fit(2, 0.1)
    assert isinstance(learn.loss_func, Known)
    assert learn.loss_func.reduction == "mean"
    assert_known(pruning.pruner)


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # of lr_find
def test_a_fit_after_an_interrupted_lr_find_is_pruned():
    class Stop(Callback):
        def before_step(self):
            if hasattr(self.learn, "lr_finder"):
                raise KeyboardInterrupt

    pruning = PruningCallback("SeTa", budget=0.5)
    learn = learner(own(0), pruning, cbs=[Stop()])
    with pytest.raises(KeyboardInterrupt):
        learn.lr_find(show_plot=False)
    learn.fit(2, 0.1)
    assert [row["trained"] for row in pruning.pruner.history] == [30, 30]


def test_items_that_are_skipped_shift_no_losses():
    pruning = PruningCallback("SeTa")
    train = DataLoader(Rows(broken=(7, 8, 30)), bs=10, shuffle=True, num_workers=2, drop_last=True)
    learner(train, pruning).fit(3, 0.1)
    assert np.flatnonzero(np.isnan(pruning.pruner.losses)).tolist() == [7, 8, 30]
    assert_known(pruning.pruner)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_whose_items_are_all_skipped_is_left_out(workers):
    pruning = PruningCallback("Full")
    train = DataLoader(Rows(broken=(7, 8, 30)), bs=1, shuffle=True, num_workers=workers)
    learner(train, pruning).fit(2, 0.1)
    assert [row["trained"] for row in pruning.pruner.history] == [N - 3] * 2
    assert np.flatnonzero(np.isnan(pruning.pruner.losses)).tolist() == [7, 8, 30]
    assert_known(pruning.pruner)


def test_losses_of_pixels_are_averaged_per_sample():
    rows = [(torch.full((2, 3, 3), float(i)), torch.zeros(3, 3).long()) for i in range(N)]
    pruning = PruningCallback("SeTa", budget=0.5)
    learn = learner(own(0), pruning, loss=CrossEntropyLossFlat(axis=1))
    learn.dls.loaders = [DataLoader(rows, bs=10, shuffle=True, drop_last=True)] * 2
    learn.fit(2, 0.1)
    seen = ~np.isnan(pruning.pruner.losses)
    assert pruning.pruner.losses[seen] == pytest.approx(np.log(2))


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
def test_tables():
    pd = pytest.importorskip("pandas")
    from fastai.tabular.core import Categorify, TabularPandas

    frame = pd.DataFrame({"x": np.arange(N, dtype=np.float32), "y": np.arange(N) % 2})
    table = TabularPandas(frame, [Categorify], [], ["x"], "y", splits=(list(range(N)), [0, 1]))
    dls = table.dataloaders(bs=10)
    recorded = {}

    class Column(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 2)

        def forward(self, categories, numbers):
            recorded["x"] = numbers[:, 0]
            return self.layer(numbers)

    def losses(prediction, target, reduction="mean"):
        values = value_of(recorded["x"]) + 0 * prediction[:, 0]
        return values if reduction == "none" else values.mean()

    pruning = PruningCallback("SeTa", budget=0.5)
    learn = Learner(dls, Column(), loss_func=losses, cbs=pruning)
    learn.remove_cb(progress.ProgressCallback)
    learn.fit(3, 0.1)
    assert_known(pruning.pruner)


def test_predictions_begin_no_run():
    pruning = PruningCallback("SeTa", budget=0.5)
    learn = learner(own(0), pruning)
    learn.fit(2, 0.1)
    history = pruning.pruner.history
    learn.get_preds()
    assert pruning.pruner.history == history and len(history) == 2
    pruning.load_state_dict(pruning.state_dict())
    learn.validate()  # does not use up the state
    with pytest.raises(ValueError, match=r"resumes in epoch 2 and the fit in 0|epochs"):
        learn.fit(2, 0.1)


def test_the_exported_learner_holds_no_data(tmp_path):
    names = [f"secret-{i}" for i in range(N)]
    targets = [lambda name: torch.tensor(float(name.split("-")[1]))]
    data = Datasets(names, [[lambda name: torch.tensor([float(name.split("-")[1])])], targets])
    pruning = PruningCallback("SeTa", budget=0.5)
    learn = learner(TfmdDL(data, bs=10, shuffle=True, num_workers=0), pruning, path=tmp_path)
    learn.dls.loaders[1] = learn.dls.train.new(shuffle=False)
    learn.fit(1, 0.1)
    learn.export("all.pkl")
    assert b"secret" not in (tmp_path / "all.pkl").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle, which fastai uses
        again = load_learner(tmp_path / "all.pkl")
    rows = again.dls.test_dl(["x-7", "x-9"])
    assert again.get_preds(dl=rows)[0].flatten().tolist() == [7.0, 9.0]


def test_making_the_data_leaves_global_random_state_alone():
    train = own(0)
    random.seed(0)
    before = random.getstate(), torch.get_rng_state()
    FastaiLoop(train, "SeTa", epochs=2)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_what_cannot_be_pruned_is_refused():
    class Weighted(DataLoader):
        def get_idxs(self):
            return [0] * N

    with pytest.raises(ValueError, match=r"Weighted makes its own: use dl_type=TfmdDL"):
        learner(Weighted(Rows(), bs=10), PruningCallback("SeTa")).fit(1, 0.1)
    with pytest.raises(ValueError, match="must batch all samples"):
        learner(DataLoader(Rows(), bs=10, n=20), PruningCallback("SeTa")).fit(1, 0.1)
    with pytest.raises(TypeError, match="must be a DataLoader of fastai or torch, got list"):
        learner([1, 2], PruningCallback("SeTa")).fit(1, 0.1)

    class DistributedTrainer(Callback):
        pass

    learn = learner(own(0), PruningCallback("SeTa"), cbs=[DistributedTrainer()])
    with pytest.raises(RuntimeError, match="trains in one process"):
        learn.fit(1, 0.1)


def test_a_loss_that_stays_a_mean_is_refused():
    class Mean:
        reduction = "mean"

        def __call__(self, prediction, target):
            return prediction.mean()

    with pytest.raises(ValueError, match="already reduced"):
        learner(own(0), PruningCallback("SeTa"), loss=Mean()).fit(1, 0.1)


def test_the_page(tmp_path):
    run_page("fastai", tmp_path)
