"""`seta.integrations.sentence_transformers`: losses, orders and resuming of embedding models."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engines import vision_operators

pytest.importorskip("sentence_transformers")

from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.sentence_transformer import losses

from seta.integrations.sentence_transformers import PrunedSentenceTransformerTrainer
from seta.integrations.transformers.means import Means, Seen
from tests.engines.pages import run_page
from tests.engines.sentence_cases import (
    CASES,
    OTHERS,
    PAIRS,
    PrunedProbe,
    in_order,
    reranker_trainer,
    rows,
    text,
    trainer_of,
)
from tests.integrations.trainer_cases import (
    alone,  # noqa: F401
    halves,
    rows_of,
    weights_of,
)
from tests.launch import passes_on_two_ranks

LINES = Path(vision_operators.__file__).read_text() + "\n"

pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore:.*warmup_ratio:FutureWarning"),
]


def check_table(trainer):
    """The table holds for each row the loss that the probe saw last; each epoch is complete."""
    last = {index: loss for _, index, loss in trainer.seen}
    table = trainer.pruner.losses
    assert len(last) == int(np.isfinite(table).sum())
    np.testing.assert_allclose(table[list(last)], list(last.values()), rtol=1e-4, atol=1e-5)
    at = 0
    for row in trainer.pruner.history:
        indices = [index for _, index, _ in trainer.seen[at : at + row["trained"]]]
        assert len(set(indices)) == row["trained"] == row["kept"]
        at += row["trained"]
    assert at == len(trainer.seen)


@pytest.mark.parametrize("case", CASES)
def test_each_loss_lands_on_its_row(tmp_path, case):
    trainer = trainer_of(tmp_path, case, gradient_accumulation_steps=2)
    trainer.train()
    check_table(trainer)
    assert [row["trained"] for row in trainer.pruner.history] == trainer.pruner.lengths
    assert trainer.lr_scheduler.get_last_lr()[0] == 0


def test_workers_and_evaluation_change_nothing(tmp_path):
    def run(**options):
        trainer = trainer_of(tmp_path, **options)
        trainer.train()
        check_table(trainer)
        return weights_of(trainer.model), rows_of(trainer.pruner), trainer.seen

    plain = run()
    evaluated = run(
        dataloader_num_workers=2,
        eval_strategy="steps",
        eval_steps=2,
        more={"eval_dataset": rows(*PAIRS, n=30)},
    )
    assert torch.equal(plain[0], evaluated[0]) and plain[1:] == evaluated[1:]


def test_two_trainings_of_one_trainer(tmp_path):
    trainer = trainer_of(tmp_path)
    for _ in range(2):
        trainer.train()
        check_table(trainer)


def test_a_reranker(tmp_path):
    trainer = reranker_trainer(tmp_path)
    trainer.train()
    check_table(trainer)


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("case", ["ranking", "matryoshka", "cosine", "cosent"])
def test_with_weights_of_1_training_is_the_stock_one_bit_for_bit(tmp_path, case, accumulation):
    results = []
    for kind, policy, options in (
        (SentenceTransformerTrainer, None, {"batch_sampler": in_order}),
        (PrunedSentenceTransformerTrainer, "Full", {"train_sampling_strategy": "sequential"}),
    ):
        trainer = trainer_of(
            tmp_path,
            case,
            policy,
            1.0,
            kind,
            gradient_accumulation_steps=accumulation,
            **options,
        )
        trainer.train()
        logged = [
            (log["loss"], log["grad_norm"]) for log in trainer.state.log_history if "loss" in log
        ]
        results.append((weights_of(trainer.model), logged))
    assert torch.equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]


@pytest.mark.parametrize("case", ["ranking", "symmetric", "matryoshka", "cosine"])
def test_a_weight_multiplies_the_rows_own_term(tmp_path, case):
    compared = []

    class Checked(PrunedProbe):
        def compute_loss(self, model, inputs, *args, **kwargs):
            weights = self.pruner.weights_of(self._seta_batch.indices)
            features, labels = self.collect_features(dict(inputs))
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            if weights is not None:
                embeddings = [model(dict(one))["sentence_embedding"] for one in features]
                terms = self.plain(torch.stack(embeddings), labels)
                plain = (torch.from_numpy(weights) * terms).mean()
                some = model[0].model.encoder.layer[0].output.dense.weight
                gradients = [
                    torch.autograd.grad(one, some, retain_graph=True)[0] for one in (loss, plain)
                ]
                torch.testing.assert_close(loss, plain, rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
                compared.append(weights.max())
            return loss

    trainer_of(tmp_path, case, halves, 1.0, Checked).train()
    assert 3 in compared


@pytest.mark.parametrize("case", OTHERS)
def test_other_losses_are_the_mean_of_those_of_their_rows(tmp_path, case):
    """Each of the first batches is checked to add up; so is one with weights."""
    trainer = trainer_of(tmp_path, case, halves, 1.0, PrunedSentenceTransformerTrainer, n=16)
    trainer.train()
    assert len(set(trainer.pruner.losses.round(4))) > 6


def test_resumes_exactly_within_an_epoch(tmp_path):
    def run(folder, checkpoint=None):
        trainer = trainer_of(
            folder,
            dropout=0.3,
            gradient_accumulation_steps=2,
            save_strategy="steps",
            save_steps=1,
            batch_sampler="no_duplicates",
        )
        trainer.train(checkpoint)
        return trainer

    whole = run(tmp_path / "whole")
    assert whole.state.global_step == 4
    for step in (1, 3):
        rest = run(tmp_path / "rest", str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert [seen[:2] for seen in rest.seen] == [s[:2] for s in whole.seen if s[0] >= step]
        assert torch.equal(weights_of(rest.model), weights_of(whole.model)), step
        assert rows_of(rest.pruner) == rows_of(whole.pruner)


# Orders of the rows.


def repeated(n=40):
    """Each positive is that of four anchors."""
    return Dataset.from_dict(
        {"anchor": [text(i) for i in range(n)], "positive": [f"w{40 + i % 10}" for i in range(n)]}
    )


@pytest.mark.parametrize("sampler", ["batch_sampler", "no_duplicates", "no_duplicates_hashed"])
def test_a_batch_has_no_text_twice_if_it_is_to_have_none(tmp_path, sampler):
    trainer = trainer_of(tmp_path, dataset=repeated(), budget=0.8, batch_sampler=sampler)
    trainer.train()
    check_table(trainer)
    twice = [len({index % 10 for index in batch}) < len(batch) for batch in trainer.batches]
    # The last batch of an epoch may have no other rows left.
    assert sum(twice) > 3 if sampler == "batch_sampler" else not any(twice[:7] + twice[8:15])
    orders = [[i for batch in trainer.batches[at : at + 8] for i in batch] for at in (0, 8)]
    assert all(order != sorted(order) for order in orders)


def test_batches_that_a_sampler_selects_are_refused(tmp_path):
    for sampler in (BatchSamplers.GROUP_BY_LABEL, in_order):
        with pytest.raises(ValueError, match="batch_sampler does not go with pruning.*NO_DUPL"):
            trainer_of(tmp_path, batch_sampler=sampler)
    with pytest.raises(ValueError, match="reorder= together with batch_sampler"):
        trainer_of(tmp_path, batch_sampler="no_duplicates", own={"reorder": np.sort})
    both = DatasetDict(one=rows(*PAIRS), two=rows(*PAIRS))
    with pytest.raises(TypeError, match="got DatasetDict of 'one', 'two'"):
        trainer_of(tmp_path, dataset=both)


# Losses that are no mean of one number per row.


def test_weights_of_a_ranking_are_refused(tmp_path):
    with pytest.raises(ValueError, match="ranks the pairs of a batch.*CosineSimilarityLoss"):
        trainer_of(tmp_path, "cosent", halves, 1.0).train()


@pytest.mark.parametrize(
    "loss", [losses.OnlineContrastiveLoss, losses.CachedMultipleNegativesRankingLoss]
)
def test_a_loss_that_is_no_mean_over_the_rows_is_refused(tmp_path, loss):
    with pytest.raises(ValueError, match="not, or not only, the mean.*sample_losses=.*update"):
        trainer_of(tmp_path, "contrastive", loss=loss).train()


class Two(torch.nn.Module):
    """A mean over the rows, some of which do not count, and one over the dimensions."""

    def __init__(self, model, dimensions):
        super().__init__()
        self.model, self.dimensions = model, dimensions

    def forward(self, features, labels):
        first, second = (self.model(one)["sentence_embedding"] for one in features)
        rows = 1 - torch.nn.functional.cosine_similarity(first, second)
        rows = torch.where(labels < 0.5, rows, torch.nan)
        loss = rows.nanmean()
        return loss + torch.relu(1 - first.std(0)).mean() if self.dimensions else loss


def test_rows_that_do_not_count_have_loss_0_and_no_weight(tmp_path):
    class Finite(PrunedSentenceTransformerTrainer):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            assert loss.isfinite()
            return loss

    trainer = trainer_of(
        tmp_path, "cosine", halves, 1.0, Finite, loss=lambda model: Two(model, False)
    )
    trainer.train()
    counted = np.arange(31) / 31 < 0.5
    assert (trainer.pruner.losses[counted] > 0).all()
    assert (trainer.pruner.losses[~counted] == 0).all()


def test_dimensions_that_could_be_rows_are_refused(tmp_path):
    options = {"loss": lambda model: Two(model, True), "per_device_train_batch_size": 16}
    trainer = trainer_of(
        tmp_path, "cosine", "SeTa", 1.0, PrunedSentenceTransformerTrainer, n=32, **options
    )
    with pytest.raises(ValueError, match="needs a batch size other than 16, the dimension"):
        trainer.train()


def test_sample_losses_of_ones_own_get_the_embeddings(tmp_path):
    plain = CASES["contrastive"][2]
    trainer = trainer_of(
        tmp_path,
        "contrastive",
        loss=losses.OnlineContrastiveLoss,
        own={"sample_losses": lambda outputs, batch: plain(torch.stack(outputs), batch["label"])},
    )
    trainer.train()
    check_table(trainer)


def test_means_of_something_else_are_not_noted():
    values = torch.randn(4, 3, requires_grad=True)
    with Means(4) as means:
        values.mean(1)
        values.T.mean()
        values.detach().mean()
        torch.nn.functional.mse_loss(values, values, reduction="sum")
        assert not means.found
        values[:, 0].mean()
        torch.nn.functional.mse_loss(values, torch.zeros(4, 3))
    assert torch.equal(means.found[0].values, values[:, 0])
    torch.testing.assert_close(means.found[1].values, (values**2).mean(1))
    assert len(means.found) == 2


def test_a_mean_of_as_many_means_as_there_are_rows_is_not_taken_for_theirs():
    """MSELoss takes a mean for each text column, and the mean of those."""
    values, targets = torch.ones(2, requires_grad=True), torch.tensor([1.0, 5.0])
    with Means(2) as means:
        columns = [torch.nn.functional.mse_loss(by * values, targets) for by in (1.0, 2.0)]
        loss = torch.stack(columns).mean()
    rows = ((targets - 1) ** 2 + (targets - 2) ** 2) / 2
    torch.testing.assert_close(Seen([], means.found, loss).losses().detach(), rows)


def test_two_processes(tmp_path):
    """The cases of `sentence_ranks.py`, in one run of torchrun."""
    passes_on_two_ranks("tests.engines.sentence_ranks", tmp_path, seconds=900)


def test_the_page(tmp_path):
    run_page("sentence-transformers", tmp_path, LINES, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")


def test_what_is_missing_is_named():
    code = (
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: "
        "None if name == 'sentence_transformers' else found(name, *more)\n"
        "try: import seta.integrations.sentence_transformers\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert "needs sentence-transformers, which is not installed: pip install" in done.stdout
