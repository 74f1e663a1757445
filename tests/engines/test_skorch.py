"""skorch: a net with `PrunedNetMixin`, trained by fit, partial_fit and scikit-learn's tools."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

import seta
from seta.integrations.skorch import PrunedNetMixin, RunOfNet
from tests.engines.pages import run_page

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")  # torch_geometric

N = 120
X = np.stack([np.arange(N), np.arange(N) % 7, np.arange(N) % 3], 1).astype(np.float32)
Y = (X[:, 1] > 2).astype(np.int64)


class Net(torch.nn.Module):
    """Its first input is the index of the sample, which the prediction depends on, too."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, X):
        return self.layer(X / torch.tensor([N, 7, 3]))


@pytest.fixture(scope="module")
def skorch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skorch
    return skorch


@pytest.fixture
def net_of(skorch):
    """Makes a net; all nets of a test begin with the same weights."""

    class Spied(PrunedNetMixin, skorch.NeuralNetClassifier):
        def initialize(self):
            torch.manual_seed(0)
            self.last_, self.means_, self.weights_ = {}, [], set()
            return super().initialize()

        def get_loss(self, y_pred, y_true, X=None, training=False):
            own = super(PrunedNetMixin, self).get_loss(y_pred, y_true, X=X, training=training)
            if training and own.ndim:
                weights = self.loader_.loader.weights()
                self.last_ |= dict(zip(X[:, 0].int().tolist(), own.tolist(), strict=True))
                self.means_.append(float((weights * own.detach()).mean()))
                self.weights_ |= set(weights.tolist())
            return super().get_loss(y_pred, y_true, X=X, training=training)

    def make(**options):
        return Spied(
            **{
                "module": Net,
                "criterion": torch.nn.CrossEntropyLoss,
                "criterion__reduction": "none",
                "max_epochs": 4,
                "lr": 0.5,
                "batch_size": 10,
                "train_split": None,
                "iterator_train": seta.PrunedDataLoader,
                "iterator_train__policy": "InfoBatch",
                "iterator_train__epochs": 4,
                "iterator_train__budget": 0.5,
                "verbose": 0,
                **options,
            }
        )

    return make


def trained(net):
    return [row["trained"] for row in net.pruner_.history]


def same_end(net, other):
    assert torch.equal(net.module_.layer.weight, other.module_.layer.weight)
    np.testing.assert_array_equal(net.pruner_.losses, other.pruner_.losses)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_loss_is_recorded_for_its_own_sample_and_weighted(net_of, num_workers):
    net = net_of(iterator_train__num_workers=num_workers).fit(X, Y)
    assert trained(net) == [60] * 4
    losses = net.pruner_.losses
    assert {i: losses[i] for i in np.flatnonzero(~np.isnan(losses))} == pytest.approx(net.last_)
    assert np.ravel(net.history[:, "batches", :, "train_loss"]) == pytest.approx(net.means_)
    assert len(net.weights_) > 1


def test_validation_samples_are_neither_trained_nor_recorded(net_of, skorch):
    valid = np.arange(0, N, 5)
    rest = np.setdiff1d(np.arange(N), valid)

    def split(dataset, y=None):
        return Subset(dataset, rest), Subset(dataset, valid)

    net = net_of(train_split=split).fit(X, Y)
    assert net.pruner_.n == len(rest)
    assert net.last_.keys() <= set(rest.tolist())
    assert [net.pruner_.losses[np.searchsorted(rest, i)] for i in net.last_] == pytest.approx(
        list(net.last_.values())
    )
    assert 0 < net.history[-1, "valid_loss"] < net.history[0, "valid_loss"]


@pytest.mark.parametrize("way", ["partial_fit", "warm_start", "same values"])
def test_calls_of_one_epoch_are_one_run(net_of, way):
    once = net_of().fit(X, Y)
    net = net_of(max_epochs=1, warm_start=True)
    for _ in range(4):
        data = X.copy() if way == "same values" else X
        (net.fit if way == "warm_start" else net.partial_fit)(data, Y)
    assert trained(net) == [60] * 4
    same_end(net, once)


def test_fit_begins_a_new_run(net_of):
    net = net_of().fit(X[:60], Y[:60])
    assert trained(net) == [30] * 4
    same_end(net.fit(X, Y), net_of().fit(X, Y))


def test_other_data_cannot_continue_a_run(net_of, skorch):
    net = net_of(max_epochs=1).partial_fit(X, Y)
    for x, y in ((X[::-1].copy(), Y), (X, 1 - Y), (X[:100], Y[:100])):
        with pytest.raises(ValueError, match="must get the same samples in the same order"):
            net.partial_fit(x, y)
    assert trained(net.partial_fit(X, Y)) == [60] * 2
    drawn = net_of(max_epochs=1, train_split=skorch.dataset.ValidSplit(0.2)).partial_fit(X, Y)
    with pytest.raises(ValueError, match="random_state=0"):
        drawn.partial_fit(X, Y)


@pytest.mark.parametrize("made", [lambda x: {"x": x}, lambda x: [x, x], lambda x: (x, x)])
def test_inputs_in_new_containers_are_the_same_data(made, skorch):
    def loader_of(x):
        data = skorch.dataset.Dataset(made(x), Y)
        return seta.PrunedDataLoader(data, "SeTa", epochs=2, batch_size=20)

    run, first, again = RunOfNet(), loader_of(X), loader_of(X.copy())
    assert run.keep(first, first.dataset, 1) is first
    assert run.keep(again, again.dataset, 1) is first
    others = loader_of(X[::-1].copy())
    with pytest.raises(ValueError, match="must get the same samples"):
        run.keep(others, others.dataset, 1)


def test_the_epochs_of_a_run_are_checked_before_they_are_trained(net_of):
    with pytest.raises(ValueError, match="got 4, of which 4 are left, and 5 to train"):
        net_of(max_epochs=5).fit(X, Y)
    net = net_of().partial_fit(X, Y, epochs=3)
    with pytest.raises(ValueError, match=r"set_params\(max_epochs=1\)"):
        net.partial_fit(X, Y)
    assert trained(net.set_params(max_epochs=1).partial_fit(X, Y)) == [60] * 4


def test_a_run_can_be_lengthened_and_its_batches_changed(net_of):
    net = net_of(max_epochs=2).partial_fit(X, Y)
    net.iterator_train__epochs = 8
    net.partial_fit(X, Y, epochs=4)
    net.set_params(batch_size=10)
    net.partial_fit(X, Y, epochs=2)
    assert trained(net) == [60] * 8
    assert net.loader_.loader.batch_size == 10


def test_one_loss_for_the_batch_is_refused(net_of):
    with pytest.raises(ValueError, match='criterion__reduction="none"'):
        net_of(criterion__reduction="mean").fit(X, Y)


def test_an_iterator_that_does_not_prune_is_refused(net_of):
    def plain(dataset, batch_size, **_):
        return DataLoader(dataset, batch_size)

    with pytest.raises(TypeError, match="got one that makes a DataLoader"):
        net_of(iterator_train=plain).fit(X, Y)


def test_a_loader_that_ignores_the_split_is_refused(net_of, skorch):
    loader = seta.PrunedDataLoader(skorch.dataset.Dataset(X, Y), "SeTa", epochs=4, batch_size=10)
    split = skorch.dataset.ValidSplit(5)
    with pytest.raises(ValueError, match="got one of 120 samples for 96"):
        net_of(iterator_train=lambda dataset, **_: loader, train_split=split).fit(X, Y)


def test_without_the_mixin_it_does_not_train_in_silence(skorch):
    net = skorch.NeuralNetClassifier(
        Net,
        criterion=torch.nn.CrossEntropyLoss,
        iterator_train=seta.PrunedDataLoader,
        iterator_train__policy="SeTa",
        iterator_train__epochs=4,
        batch_size=10,
        train_split=None,
        verbose=0,
    )
    with pytest.raises(RuntimeError, match="batches of epoch 0 was answered"):
        net.fit(X, Y)


def test_grid_search_clones_the_net_and_searches_budgets(net_of):
    from sklearn.model_selection import GridSearchCV

    budgets = {"iterator_train__budget": [0.5, 1.0]}
    search = GridSearchCV(net_of(), budgets, cv=2, error_score="raise").fit(X, Y)
    best = search.best_estimator_
    assert sum(trained(best)) == 4 * N * search.best_params_["iterator_train__budget"]


def test_predictions_are_of_all_data_in_order_and_leave_the_run_alone(net_of):
    net = net_of(max_epochs=2).fit(X, Y)
    before = net.pruner_.losses
    expected = net.module_(torch.from_numpy(X))
    assert torch.allclose(net.forward(X), expected)
    assert torch.allclose(net.forward(X, training=True), expected)
    assert net.predict(X).shape == (N,)
    assert trained(net) == [60] * 2
    np.testing.assert_array_equal(net.pruner_.losses, before)


def files(folder):
    names = {"f_params": "p.pt", "f_optimizer": "o.pt", "f_loader": "l.pt"}
    return {key: str(folder / name) for key, name in names.items()}


def stop(skorch, before=lambda net: None):
    class Stop(skorch.callbacks.Callback):
        def on_batch_end(self, net, training=None, **_):
            if len(net.history) == 2 and len(net.history[-1, "batches"]) == 3:
                before(net)
                raise KeyboardInterrupt  # skorch ends the training

    return [Stop()]


def test_an_interrupted_epoch_counts(net_of, skorch):
    net = net_of(callbacks=stop(skorch)).fit(X, Y)
    with pytest.raises(ValueError, match="of which 2 are left, and 3 to train"):
        net.partial_fit(X, Y, epochs=3)
    assert trained(net.set_params(callbacks=[]).partial_fit(X, Y, epochs=2)) == [60, 30, 60, 60]


def test_a_run_resumed_in_mid_epoch_ends_as_one_that_was_not(net_of, skorch, tmp_path):
    momentum = {"optimizer__momentum": 0.9}
    saved = stop(skorch, lambda net: net.save_params(**files(tmp_path)))
    net_of(callbacks=saved, **momentum).fit(X, Y)
    net = net_of(**momentum).initialize()
    net.load_params(**files(tmp_path))
    net.partial_fit(X, Y, epochs=3)
    assert len(net.history[0, "batches"]) == 3  # of the 6 of epoch 1
    same_end(net, net_of(**momentum).fit(X, Y))


def test_skorchs_own_checkpoints_resume_a_run_after_an_epoch(net_of, skorch, tmp_path):
    def checkpoint():
        return skorch.callbacks.Checkpoint(
            monitor=None, f_history=str(tmp_path / "h.json"), f_criterion=None, **files(tmp_path)
        )

    net_of(callbacks=[checkpoint()], max_epochs=2).fit(X, Y)
    load = skorch.callbacks.LoadInitState(checkpoint())
    same_end(net_of(callbacks=[load], max_epochs=2).fit(X, Y), net_of().fit(X, Y))


def test_a_copy_leaves_the_data_behind_and_continues_the_run(net_of):
    net = net_of().partial_fit(X, Y, epochs=2)
    copied = copy.deepcopy(net)
    with pytest.raises(AttributeError, match="copied or pickled"):
        _ = copied.pruner_
    for one in (net, copied):
        one.partial_fit(X, Y, epochs=2)
    same_end(net, copied)


@pytest.mark.processes
def test_the_program_of_the_page_runs(tmp_path):
    run_page("skorch", tmp_path)
