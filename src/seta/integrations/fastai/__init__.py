"""fastai: one callback that selects, records and ends epochs in `Learner.fit`.

    learn = vision_learner(dls, resnet34, cbs=PruningCallback("SeTa"))
    learn.fit_one_cycle(5)

During the training part of an epoch, the callback puts a `Loop` in the place of the training
`DataLoader`. fastai makes the batches as before: the loop reads from a copy of its `DataLoader`
whose samples are the pruner's and whose batches carry their indices. The loss function returns one
loss per sample there; the callback records them and puts the weighted mean in their place. All else
sees the data and the loss function as they were: validation, `get_preds`, `lr_find`.

Cost per batch: a few microseconds more than fastai's own.
"""

from seta.extras import require

require("seta.integrations.fastai", "torch", "fastai", extra="fastai")

from seta.integrations.fastai.callback import PruningCallback  # noqa: E402
from seta.integrations.fastai.loop import FastaiLoop  # noqa: E402

__all__ = ["FastaiLoop", "PruningCallback"]
