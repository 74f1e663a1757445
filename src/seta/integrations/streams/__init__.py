"""Pruning streams: iterable data whose rows carry a stable id, such as Hugging Face and webdataset.

    rows --KeepSet--> kept rows --Reader (in the workers)--> batches --PrunedStream--> training
    Ledger: what each rank gives of an epoch, so that all give equally many batches

A stream has no random access. So a pruned stream is read completely and decoded in part: it saves
decoding and training, but not reading. Works with any object that can be iterated repeatedly; the
frameworks need not be installed.
"""

from seta.extras import require

require("seta.integrations.streams", "torch", extra="torch")

from seta.integrations.streams.keep import KeepSet  # noqa: E402
from seta.integrations.streams.stream import PrunedStream  # noqa: E402

__all__ = ["KeepSet", "PrunedStream"]
