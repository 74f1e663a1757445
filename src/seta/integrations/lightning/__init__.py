"""Lightning: one callback that chooses, records, ends epochs and travels in the checkpoint.

    pruning = PruningCallback("SeTa", budget=0.6)

    class Net(L.LightningModule):
        def training_step(self, batch, batch_idx):
            images, labels = batch
            return pruning.update(cross_entropy(self(images), labels, reduction="none"))

    trainer = L.Trainer(max_epochs=10, callbacks=[pruning])
    trainer.fit(Net(), pruning.loader(dataset, batch_size=64, num_workers=2))

The training data is no torch `DataLoader`, but an iterable with a length, over a
`PrunedDataLoader` that is made once the processes know of each other. So Lightning leaves the
sampling alone, also with `use_distributed_sampler=True`, and goes on dealing out the validation
data; it fetches no batch ahead, so that each loss has exactly one batch that it can belong to (two
would be an error); and the position in the epoch is kept in one place, the callback's state.
"""

from seta.extras import require

require("seta.integrations.lightning", "torch", "lightning", extra="lightning")

from seta.integrations.lightning.callback import PruningCallback  # noqa: E402
from seta.integrations.lightning.loader import PrunedBatches  # noqa: E402

__all__ = ["PrunedBatches", "PruningCallback"]
