"""Pruning streams: iterable data whose rows carry a stable id, such as Hugging Face and webdataset.

    rows --KeepSet--> kept rows --Reader (in the workers)--> batches --PrunedStream--> training
    Ledger: what each rank gives of an epoch, so that all give equally many batches

A stream cannot be asked for samples, only read. So a pruned one is read whole and decoded in part:
what is saved is decoding and training, not reading. Works on whatever can be iterated over again
and again; the frameworks need not be installed.
"""

from seta.extras import require

require("seta.integrations.streams", "torch", extra="torch")

from seta.integrations.streams.keep import KeepSet  # noqa: E402
from seta.integrations.streams.stream import PrunedStream  # noqa: E402

__all__ = ["KeepSet", "PrunedStream"]
