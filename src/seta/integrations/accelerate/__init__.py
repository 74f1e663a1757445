"""Hugging Face Accelerate: a pruned loader that has been through `accelerator.prepare`.

    pruning = Pruning(accelerator, dataset, "SeTa", epochs=10, budget=0.6, batch_size=32)
    model, optimizer = accelerator.prepare(model, optimizer)
    for epoch in range(10):
        for inputs, targets in pruning:
            with accelerator.accumulate(model):
                losses = cross_entropy(model(inputs), targets, reduction="none")
                accelerator.backward(pruning.update(losses))
                ...

Every process reads the same order, and Accelerate deals it out (`split_batches`, `dispatch_batches`
and device placement as they are set). Accelerate looks one batch ahead; each batch carries its
indices and is counted as given out where the training loop gets it, so losses still find their
samples. What is trained is remembered by this object, which `accelerator.save_state` saves.

Cost: that of `PrunedDataLoader`, and of Accelerate's own loader. One exchange per epoch.
"""

from seta.extras import require

require("seta.integrations.accelerate", "accelerate", "torch", extra="accelerate")

from seta.integrations.accelerate.pruning import Pruning  # noqa: E402

__all__ = ["Pruning"]
