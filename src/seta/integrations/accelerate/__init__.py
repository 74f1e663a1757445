"""Hugging Face Accelerate: a pruned loader with a prepared `DataLoader`.

    loader = PrunedAccelerateLoader(
        accelerator, dataset, "SeTa", epochs=10, budget=0.6, batch_size=32
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    for epoch in range(10):
        for inputs, targets in loader:
            with accelerator.accumulate(model):
                losses = cross_entropy(model(inputs), targets, reduction="none")
                accelerator.backward(loader.update(losses))
                ...

Every process reads the same order, and Accelerate splits it among the processes (`split_batches`,
`dispatch_batches` and device placement work as set). Accelerate reads one batch ahead. Each batch
carries its indices and counts from when the training loop gets it, so losses are matched to their
samples. `accelerator.save_state` saves the state.

Cost: that of `PrunedDataLoader`, and of Accelerate's own loader. One exchange per epoch.
"""

from seta.extras import require

require("seta.integrations.accelerate", "accelerate", "torch", extra="accelerate")

from seta.integrations.accelerate.loader import PrunedAccelerateLoader  # noqa: E402

__all__ = ["PrunedAccelerateLoader"]
