"""Tiny models, texts and a probe for the tests of sentence-transformers."""

import tempfile
from functools import cache

import tests.engines.vision_operators  # noqa: F401  isort: skip

import datasets
import torch
from sentence_transformers import (
    CrossEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.cross_encoder import (
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
)
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity, cross_entropy
from torch.utils.data import SequentialSampler
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from seta.integrations.sentence_transformers import (
    PrunedSentenceTransformerMixin,
    PruningArguments,
)

WORDS = 64


@cache  # with several processes, save_pretrained writes on the first alone
def saved(kind, dropout, **options):
    """The folder of a tiny model and its tokenizer."""
    marks = ["[PAD]", "[CLS]", "[SEP]"]
    names = marks + [f"w{i}" for i in range(len(marks), WORDS)]
    vocabulary = {name: number for number, name in enumerate(names)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    words.pre_tokenizer = WhitespaceSplit()
    folder = tempfile.mkdtemp()
    torch.manual_seed(0)
    kind(
        BertConfig(
            vocab_size=WORDS,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            **options,
        )
    ).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=16,
    ).save_pretrained(folder)
    return folder


def encoder(dropout=0.0):
    return SentenceTransformer(modules=[Transformer(saved(BertModel, dropout)), Pooling(16)])


def reranker():
    return CrossEncoder(saved(BertForSequenceClassification, 0.0, num_labels=1))


def text(index):
    """Two words that are the index."""
    return f"w{index // 8 + 4} w{index % 8 + 20}"


def index_of(ids):
    return (int(ids[0]) - 4) * 8 + int(ids[1]) - 20


def rows(*columns, n=41):
    """Rows whose texts are all made of the index."""
    made = {
        "anchor": [text(i) for i in range(n)],
        "positive": [f"w{40 + i % 8} {text(i)}" for i in range(n)],
        "negative": [f"w{50 + i % 5} {text(n - 1 - i)}" for i in range(n)],
        "score": [i / n for i in range(n)],
        "label": [i % 2 for i in range(n)],
    }
    return datasets.Dataset.from_dict({name: made[name] for name in columns})


PAIRS, TRIPLETS = ("anchor", "positive"), ("anchor", "positive", "negative")
SCORES, LABELS = (*PAIRS, "score"), (*PAIRS, "label")


# The losses, and those of each row the plain way: of embeddings (columns, B, D) and labels (B,).


def ranking(embeddings, labels=None):
    anchors, *others = embeddings
    scores = 20 * cosine_similarity(anchors[:, None], torch.cat(others)[None], dim=-1)
    return cross_entropy(scores, torch.arange(len(anchors)), reduction="none")


def both_ways(embeddings, labels):
    return (ranking(embeddings) + ranking(embeddings.flip(0))) / 2


def cosine(embeddings, labels):
    return (cosine_similarity(*embeddings) - labels) ** 2


def triplet(embeddings, labels):
    anchor, positive, negative = embeddings
    return ((anchor - positive).norm(dim=1) - (anchor - negative).norm(dim=1) + 5).relu()


def nested(embeddings, labels):
    return sum(ranking(embeddings[..., :size]) for size in (16, 8, 4))


def cosent(embeddings, labels):
    """A pair's own part of the ranking, term by term."""
    scores, found = 20 * cosine_similarity(*embeddings), []
    for i, mine in enumerate(scores):
        terms = [torch.zeros(())]
        terms += [mine - other for j, other in enumerate(scores) if labels[i] < labels[j]]
        terms += [other - mine for j, other in enumerate(scores) if labels[i] > labels[j]]
        found.append(torch.stack(terms).logsumexp(0))
    return torch.stack(found)


def contrastive(embeddings, labels):
    distances = 1 - cosine_similarity(*embeddings)
    return (labels * distances**2 + (1 - labels) * (0.5 - distances).relu() ** 2) / 2


def symmetric(model):
    return losses.MultipleNegativesRankingLoss(
        model, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )


def matryoshka(model):
    return losses.MatryoshkaLoss(model, losses.MultipleNegativesRankingLoss(model), [16, 8, 4])


def all_ways(model):
    return losses.MultipleNegativesRankingLoss(
        model,
        directions=("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"),
        hardness_mode="all_negatives",
        hardness_strength=5.0,
    )


OTHERS = {  # losses that are checked to add up, but not computed a second time here
    "all ways": (TRIPLETS, all_ways),
    "guided": (PAIRS, lambda model: losses.GISTEmbedLoss(model, encoder())),
    "softmax": (LABELS, lambda model: losses.SoftmaxLoss(model, 16, 2)),
    "batch hard": (("anchor", "label"), losses.BatchHardTripletLoss),
}

CASES = {  # columns, the engine's loss, that of each row
    "ranking": (PAIRS, losses.MultipleNegativesRankingLoss, ranking),
    "hard negatives": (TRIPLETS, losses.MultipleNegativesRankingLoss, ranking),
    "symmetric": (PAIRS, symmetric, both_ways),
    "matryoshka": (PAIRS, matryoshka, nested),
    "cosine": (SCORES, losses.CosineSimilarityLoss, cosine),
    "triplet": (TRIPLETS, losses.TripletLoss, triplet),
    "contrastive": (LABELS, losses.ContrastiveLoss, contrastive),
    "cosent": (SCORES, losses.CoSENTLoss, cosent),
}


class Probe(SentenceTransformerTrainer):
    """Notes each row of each batch, and its loss, computed anew from its embeddings."""

    plain = None  # a function of CASES
    seen: list  # of (step, index, loss)

    def train(self, *args, **kwargs):
        self.seen, self.batches = [], []
        return super().train(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        assert not any(key.startswith("seta") for key in inputs)
        if self.model.training:
            features, labels = self.collect_features(dict(inputs))
            with torch.no_grad():
                embeddings = torch.stack(
                    [self.model(dict(column))["sentence_embedding"] for column in features]
                )
            values = self.plain(embeddings, labels).tolist()
            found = [index_of(ids) for ids in features[0]["input_ids"]]
            self.seen += [
                (self.state.global_step, index, value)
                for index, value in zip(found, values, strict=True)
            ]
            self.batches.append(found)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class PrunedProbe(PrunedSentenceTransformerMixin, Probe):
    pass


BARE = {
    "per_device_train_batch_size": 4,
    "num_train_epochs": 2,
    "learning_rate": 0.01,
    "use_cpu": True,
    "report_to": [],
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


def arguments(folder, kind=SentenceTransformerTrainingArguments, **options):
    return kind(str(folder), **(BARE | options))


def trainer_of(
    folder,
    case="ranking",
    policy="SeTa",
    budget=0.6,
    kind=PrunedProbe,
    n=31,
    dropout=0.0,
    dataset=None,
    loss=None,
    own=None,
    more=None,
    **options,
):
    """A trainer of a case; `own` are further arguments of pruning, `more` of the trainer."""
    columns, made, *plain = CASES.get(case) or OTHERS[case]
    model, more = encoder(dropout), dict(more or {})
    if policy is not None:
        more["pruning"] = PruningArguments(policy, budget=budget, **own or {})
    trainer = kind(
        model,
        arguments(folder, **options),
        train_dataset=rows(*columns, n=n) if dataset is None else dataset,
        loss=(loss or made)(model),
        **more,
    )
    trainer.plain = plain[0] if plain else None
    return trainer


def in_order(dataset, batch_size, drop_last, **options):
    """A batch sampler for the engine's own trainer that keeps the order of the rows."""
    return DefaultBatchSampler(SequentialSampler(dataset), batch_size, drop_last)


class RerankerProbe(CrossEncoderTrainer):
    """As `Probe`, for a reranker of pairs."""

    seen: list

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        features, labels = self.collect_features(dict(inputs))
        if self.model.training:
            pairs = self.model.preprocess(list(zip(*features, strict=True)))
            with torch.no_grad():
                scores = self.model(pairs)["scores"].view(-1)
            values = binary_cross_entropy_with_logits(scores, labels.float(), reduction="none")
            for anchor, value in zip(features[0], values.tolist(), strict=True):
                index = index_of([word[1:] for word in anchor.split()])
                self.seen.append((self.state.global_step, index, value))
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class PrunedRerankerProbe(PrunedSentenceTransformerMixin, RerankerProbe):
    pass


def reranker_trainer(folder, **options):
    model = reranker()
    trainer = PrunedRerankerProbe(
        model,
        arguments(folder, CrossEncoderTrainingArguments, **options),
        train_dataset=rows(*LABELS),
        pruning=PruningArguments(budget=0.6),
    )
    trainer.seen = []
    return trainer
