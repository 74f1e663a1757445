"""Checks of Keras' `fit` over a `PrunedDataLoader`: FILE 0; see tests/integrations/checks.py."""

import contextlib
import functools
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
sys.modules["jax"] = None  # Keras imports it if it is there, and workers are forked here

import keras  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import seta  # noqa: E402

N, EPOCHS = 120, 4
INDEX = torch.arange(N)
X = torch.stack([INDEX / N, INDEX % 7 / 7], 1)
warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy keyword")
PLAIN = DataLoader(TensorDataset(X, INDEX), 30)


def losses_of(index, outputs):
    """The label of a sample is its index, which its class follows from."""
    return keras.losses.sparse_categorical_crossentropy(
        (index % 7 > 2).long(), outputs, from_logits=True
    )


class PrunedModel(keras.Model):
    loader = None

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not training:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        losses = losses_of(y, y_pred)
        if sample_weight is not None:
            losses = losses * sample_weight
        if self.last is not None:
            self.last |= dict(zip(y.tolist(), losses.tolist(), strict=True))
        return self.loader.update(losses)


class Run:
    """A training from its beginning: the same weights and the same plan in each."""

    def __init__(self, policy="InfoBatch", budget=0.5, *, kind=PrunedModel, rate=0.1, **options):
        keras.utils.set_random_seed(0)
        data = TensorDataset(X, INDEX, *options.pop("weights", []))
        jit, accumulation = options.pop("jit", False), options.pop("accumulation", None)
        dropout = options.pop("dropout", 0.2)
        self.loader = seta.PrunedDataLoader(
            data, policy, epochs=EPOCHS, batch_size=10, budget=budget, **options
        )
        inputs = keras.Input((2,))
        hidden = keras.layers.Dense(8, "relu")(inputs)
        hidden = keras.layers.Dropout(dropout, seed=1)(hidden)
        self.model = kind(inputs, keras.layers.Dense(2)(hidden))
        self.model.loader, self.model.last = self.loader, None if jit else {}
        rate = rate(self.loader) if callable(rate) else rate
        optimizer = keras.optimizers.Adam(rate, gradient_accumulation_steps=accumulation)
        self.model.compile(optimizer, loss=losses_of, metrics=[], jit_compile=jit)

    def fit(self, epochs=EPOCHS, **options):
        self.history = self.model.fit(
            self.loader, epochs=epochs, shuffle=False, verbose=0, **options
        ).history
        return self

    @property
    def trained(self):
        return [row["trained"] for row in self.loader.pruner.history]

    @property
    def recorded(self):
        losses = self.loader.pruner.losses
        return {int(i): float(losses[i]) for i in np.flatnonzero(~np.isnan(losses))}


def same_end(run, other):
    for one, two in zip(run.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert run.recorded == other.recorded
    assert run.trained == other.trained == [60] * EPOCHS


@contextlib.contextmanager
def refused(*parts):
    try:
        yield
    except RuntimeError as error:
        assert all(part in str(error) for part in parts), error
    else:
        raise AssertionError(f"not refused: {parts}")


def check_each_loss_is_recorded_for_its_own_sample():
    for workers in (0, 2):
        run = Run(num_workers=workers).fit()
        assert run.trained == [60] * EPOCHS
        assert run.recorded.keys() == run.model.last.keys()
        np.testing.assert_allclose(
            [run.recorded[i] for i in run.recorded], [run.model.last[i] for i in run.recorded]
        )


def check_validation_records_nothing():
    run = Run().fit(validation_data=PLAIN)
    same_end(run, Run().fit())
    assert run.history["val_loss"][-1] < run.history["val_loss"][0]


def check_the_rate_ends_at_zero():
    def cosine(loader):
        return keras.optimizers.schedules.CosineDecay(0.1, loader.total_batches)

    run = Run(rate=cosine).fit()
    assert int(run.model.optimizer.iterations) == run.loader.total_batches == 24
    assert abs(float(run.model.optimizer.learning_rate)) < 1e-8


def check_accumulation_takes_the_batches_of_the_plan():
    run = Run(accumulation=2).fit()
    assert run.trained == [60] * EPOCHS
    assert int(run.model.optimizer.iterations) == 12


def check_sample_weights_multiply_the_losses():
    weights = [torch.where(INDEX < 60, 1.0, 0.0)]
    recorded = Run(weights=weights).fit().recorded
    assert {i: loss for i, loss in recorded.items() if i >= 60} == dict.fromkeys(
        (i for i in recorded if i >= 60), 0.0
    )
    assert min(loss for i, loss in recorded.items() if i < 60) > 0


def check_a_compiled_step_records_the_same():
    compile_, torch.compile = torch.compile, functools.partial(torch.compile, backend="eager")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's compiler
            run = Run(jit=True).fit(2)
    finally:
        torch.compile = compile_
    other = Run().fit(2)
    assert run.trained == other.trained == [60] * 2
    assert run.recorded.keys() == other.recorded.keys()
    np.testing.assert_allclose(
        list(run.recorded.values()), list(other.recorded.values()), rtol=1e-4
    )


def check_training_without_update_is_refused():
    for epochs in (1, EPOCHS):
        with refused("none of the 6 batches of epoch 0 was answered", "loader.update"):
            Run(kind=keras.Model).fit(epochs)


def check_evaluating_on_the_pruned_loader_is_refused_and_costs_nothing():
    run = Run().fit(2)
    for call in (run.model.evaluate, run.model.predict):
        with refused("none of the 6 batches of epoch 2 was answered", "plain DataLoader"):
            call(run.loader, verbose=0)
    same_end(run.fit(initial_epoch=2), Run().fit())


def check_several_fits_are_one_run():
    run = Run()
    for epoch in range(EPOCHS):
        run.fit(epoch + 1, initial_epoch=epoch)
    same_end(run, Run().fit())
    with refused("all 4 epochs of this run are over"):
        run.fit(5, initial_epoch=4)


def check_an_epoch_of_keras_may_be_half_an_epoch():
    same_end(Run().fit(2 * EPOCHS, steps_per_epoch=3), Run().fit())


def check_without_a_budget_each_epoch_is_a_fit():
    run = Run("SeTa", None)
    for epoch in range(EPOCHS):
        run.fit(epoch + 1, initial_epoch=epoch)
    kept = [row["kept"] for row in run.loader.pruner.history]
    assert run.trained == kept and len(set(kept)) > 1


def check_an_epoch_that_was_stopped_counts():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 3 and len(run.trained) == 1

    run = Run()
    run.fit(callbacks=[Stop()])
    run.fit(initial_epoch=2)
    assert run.trained == [60, 40, 60, 60]


class Save(keras.callbacks.Callback):
    """Saves when so many batches of so many epochs are done."""

    def __init__(self, run, folder, epoch, batch):
        super().__init__()
        self.run, self.folder, self.at = run, folder, (epoch, batch)

    def save(self):
        self.model.save_weights(self.folder / "model.weights.h5")
        torch.save(self.run.loader.state_dict(), self.folder / "loader.pt")

    def on_train_batch_end(self, batch, logs=None):
        if self.at == (self.run.loader.epoch, batch):
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        if self.at == (epoch, None):
            self.save()


def resumed(folder):
    run = Run(dropout=0)  # its random state is not in Keras' files
    run.model.optimizer.build(run.model.trainable_variables)  # before its state can be loaded
    run.model.load_weights(folder / "model.weights.h5")
    run.loader.load_state_dict(torch.load(folder / "loader.pt", weights_only=True))
    return run


def check_a_resumed_run_ends_as_one_that_was_not_interrupted():
    for batch in (2, None):  # in the second epoch, and after it
        with tempfile.TemporaryDirectory() as name:
            run = Run(dropout=0)
            run.fit(callbacks=[Save(run, Path(name), 1, batch)])
            rest = resumed(Path(name))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Your input ran out of data")
            rest.fit(initial_epoch=rest.loader.epoch)
        assert len(rest.history["loss"]) == (3 if batch else 2)
        same_end(rest, run)


def check_keras_own_backup_goes_beside_the_loaders_state():
    class Backup(keras.callbacks.BackupAndRestore):
        def __init__(self, folder, loader):
            super().__init__(folder, delete_checkpoint=False)
            self.loader, self.path = loader, Path(folder) / "loader.pt"

        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            if self.path.exists():
                self.loader.load_state_dict(torch.load(self.path, weights_only=True))

        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            torch.save(self.loader.state_dict(), self.path)

    with tempfile.TemporaryDirectory() as folder:
        run = Run(dropout=0)
        run.fit(2, callbacks=[Backup(folder, run.loader)])
        rest = Run(dropout=0)
        rest.fit(callbacks=[Backup(folder, rest.loader)])
    same_end(rest, Run(dropout=0).fit())


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent.parent / "integrations"))
    from checks import run_checks

    run_checks(globals(), sys.argv[1])
