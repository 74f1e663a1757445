"""A tokenizer, data and a probe for the tests of `SFTTrainer`."""

import datasets
import torch
from tokenizers import Tokenizer, models
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from seta.integrations.trl import PrunedSFTMixin
from tests.integrations.trainer_cases import BARE, VOCABULARY, sequence


def tokenizer():
    words = models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), pad_token="w0", eos_token="w63", unk_token="w0"
    )


def sequences(n):
    rows = [sequence(index) for index in range(n)]
    return datasets.Dataset.from_list([{"input_ids": ids, "labels": ids} for ids in rows])


def config(folder, **options):
    defaults = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 3,
    }
    return SFTConfig(output_dir=str(folder), **(BARE | defaults | options))


class Probe(SFTTrainer):
    """Notes each row of each batch, and its loss, computed from the logits of a second forward."""

    seen: list  # of (step, row, loss)

    def train(self, *args, **kwargs):
        self.seen = []
        rows = self.train_dataset["input_ids"]
        self.number = {tuple(ids): row for row, ids in enumerate(rows)}
        return super().train(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        assert not any(key.startswith("seta") for key in inputs)
        given = {key: value for key, value in inputs.items() if key != "labels"}
        loss = super().compute_loss(model, dict(inputs), False, num_items_in_batch)
        if self.model.training:
            with torch.no_grad():
                logits = self.model(**given)["logits"]
            total = 0.0
            for ids, labels, scores in self.parts(inputs, logits):
                terms = self.terms(scores[:-1].double(), labels[1:])
                self.seen.append((self.state.global_step, self.number[ids], float(terms.mean())))
                total += float(terms.sum())
            factor = self.accelerator.num_processes
            if not self.model.config.attention_dropout:  # which differs from forward to forward
                torch.testing.assert_close(
                    float(loss.detach()),
                    factor * total / float(num_items_in_batch),
                    rtol=1e-4,
                    atol=1e-5,
                )
        return loss

    def terms(self, scores, labels):
        kept = labels != -100
        terms = cross_entropy(
            scores[kept],
            labels[kept],
            reduction="none",
            label_smoothing=self.args.label_smoothing_factor,
        )
        return terms * (-terms).exp() if self.args.loss_type == "dft" else terms

    def parts(self, inputs, logits):
        """The rows of a batch: ids, labels, logits; a flattened one is cut where rows are found."""
        ids, labels = inputs["input_ids"], inputs["labels"]
        if "attention_mask" in inputs:
            for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
                yield tuple(ids[row, :length].tolist()), labels[row, :length], logits[row, :length]
            return
        flat, at = ids[0].tolist(), 0
        while at < len(flat):
            row = next(row for row in self.number if tuple(flat[at : at + len(row)]) == row)
            part = slice(at, at + len(row))
            yield row, labels[0, part], logits[0, part]
            at += len(row)


class PrunedProbe(PrunedSFTMixin, Probe):
    pass
