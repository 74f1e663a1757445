"""Samples of a data set as a page shows them: a thumbnail, a text, token ids or a sound.

Data sets hold anything, and some items fail; such a one says why, in its place, and the page goes
on. All texts stay texts here: the page shows them as such, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seta.report.inspection import media
from seta.report.units import text_of

Show = Callable[[Any], Any]
Shown = dict[str, str]

_CONTENT = (
    "image", "img", "pixel_values", "audio", "text", "sentence", "content", "question", "prompt",
    "messages", "input_ids", "x", "inputs",
)  # fmt: skip
_LABEL = ("label", "labels", "target", "targets", "y", "class", "fine_label", "answer")
_NAME = ("file_name", "filename", "file", "path", "id", "name", "key")
_TEXT, _SHORT, _TOKENS = 300, 80, 40  # characters, characters, ids
_SOUNDS = 20  # each takes 20 kB
_ROOM = 700_000  # characters of all items of a page


class Items:
    """The samples of a data set, each loaded once.

    Args:
        dataset: Anything with `dataset[index]`.
        names: Of the classes, by label.
        show: Makes of an item what is shown of it: an image, a text, an array.

    Attributes:
        shown: What was loaded, by index.
    """

    def __init__(self, dataset: Any, names: Sequence[str] = (), show: Show | None = None) -> None:
        self._dataset, self._names, self._show = dataset, names, show
        self.shown: dict[int, Shown] = {}

    def load(self, samples: Iterable[int]) -> dict[int, Shown]:
        """Returns what is shown of some samples, as long as there is room; those that fail say why.

        Args:
            samples: Their indices, the most telling first.
        """
        found: dict[int, Shown] = {}
        taken = sounds = 0
        for sample in samples:
            if taken >= _ROOM:
                break
            if sample not in self.shown:
                self.shown[sample] = self._one(sample, sounds < _SOUNDS)
            found[sample] = self.shown[sample]
            taken += sum(map(len, found[sample].values()))
            sounds += found[sample]["kind"] == "audio"
        return found

    def _one(self, sample: int, sounds: bool) -> Shown:
        try:
            item = self._dataset[sample]
            content, label, name = _parts(item)
            if self._show is not None:
                content = self._show(item)
            shown = _shown(content, sounds)
            if label is not None:
                shown["label"] = _label(label, self._names)
            name = name or _file_of(self._dataset, sample)
            if name:
                shown["name"] = _cut(name, _SHORT)
            return shown
        except (Exception, SystemExit) as error:  # of the user's own code, whatever it is
            return {"kind": "error", "text": _cut(f"{type(error).__name__}: {_said(error)}", 200)}


def length_of(dataset: Any) -> int | None:
    """Returns how many samples a data set has; None where it does not say."""
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None


def labels_in(dataset: Any, n: int) -> Any:
    """Returns the labels that a data set has as a whole; None where it has none, or they fail.

    Looks at what torchvision (`targets`, `labels`), TensorDataset (`tensors`) and Hugging Face
    (`dataset["label"]`) keep; loads no item.
    """
    try:
        return _labels_in(dataset, n)
    except Exception:  # of the user's own code, whatever it is: then classes are not known
        return None


def _labels_in(dataset: Any, n: int) -> Any:
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):  # a Subset
        inner = labels_in(dataset.dataset, len(dataset.dataset))
        return None if inner is None else inner[np.asarray(dataset.indices)]
    for name in ("targets", "labels"):
        if _are_labels(getattr(dataset, name, None), n):
            return _whole(getattr(dataset, name))
    tensors = getattr(dataset, "tensors", None)
    if isinstance(tensors, tuple) and len(tensors) > 1 and _are_labels(tensors[1], n):
        return _whole(tensors[1])
    for name in ("label", "labels"):
        if name in (getattr(dataset, "column_names", None) or ()):
            column = dataset[name]
            return _whole(column[:]) if _are_labels(column[:], n) else None
    return None


def names_in(dataset: Any) -> list[str]:
    """Returns the names of the classes that a data set knows; [] where there are none to be had."""
    try:
        return _names_in(dataset)
    except Exception:  # of the user's own code, whatever it is
        return []


def _names_in(dataset: Any) -> list[str]:
    inner = getattr(dataset, "dataset", None)
    features = getattr(dataset, "features", None)
    for found in (
        getattr(dataset, "classes", None),
        getattr(features.get("label"), "names", None) if isinstance(features, Mapping) else None,
        _names_in(inner) if inner is not None else None,
    ):
        if isinstance(found, (list, tuple)) and found:
            return [str(name) for name in found]
    return []


def _are_labels(values: Any, n: int) -> bool:
    if values is None or callable(values) or not hasattr(values, "__len__") or len(values) != n:
        return False
    array = _whole(values[:1])
    return bool(array.ndim == 1 and array.dtype.kind in "iubUS")


def _whole(labels: Any) -> Any:
    """Returns labels as an array, those of a tensor on any device."""
    return labels.detach().cpu().numpy() if hasattr(labels, "detach") else np.asarray(labels)


def _parts(item: Any) -> tuple[Any, Any, str | None]:
    """Returns what an item shows, its label, and its name, each None where it has none."""
    if isinstance(item, Mapping):
        name = next((str(item[key]) for key in _NAME if isinstance(item.get(key), (str, int))), "")
        label = next((item[key] for key in _LABEL if item.get(key) is not None), None)
        content = next((item[key] for key in _CONTENT if item.get(key) is not None), None)
        rest = [value for key, value in item.items() if key not in (*_LABEL, *_NAME)]
        return (content if content is not None or not rest else rest[0]), label, name
    if isinstance(item, tuple) and item:
        if len(item) > 1 and media.is_sound(item[0], item[1]):
            return item[:2], item[2] if len(item) > 2 else None, None
        return item[0], item[1] if len(item) > 1 else None, None
    return item, None, None


def _shown(content: Any, sounds: bool) -> Shown:
    """Returns what a page shows of the content of an item."""
    if isinstance(content, str):
        return {"kind": "text", "text": _cut(content, _TEXT)}
    if media.is_image(content):
        return {"kind": "image", "src": media.thumbnail(content)}
    sound = media.sound_of(content)
    if sound is not None:
        if sounds:
            return {"kind": "audio", "src": media.wav(*sound)}
        return {"kind": "text", "text": f"sound of {len(sound[0]) / sound[1]:.1f} s"}
    array = media.array_of(content)
    if array is None:
        return {"kind": "text", "text": _cut(str(content), _TEXT)}
    if media.is_picture(array):
        return {"kind": "image", "src": media.thumbnail(media.picture(array))}
    return {"kind": "tokens" if array.dtype.kind in "iu" else "numbers", "text": _numbers(array)}


def _numbers(array: Any) -> str:
    flat = array.reshape(-1)
    texts = [
        str(value) if array.dtype.kind in "iub" else f"{value:.3g}" for value in flat[:_TOKENS]
    ]
    more = f" ... ({array.size} in all)" if array.size > _TOKENS else ""
    return " ".join(texts) + more


def _label(label: Any, names: Sequence[str]) -> str:
    array = media.array_of(label)
    if array is not None and array.size == 1 and array.dtype.kind in "iub":
        at = int(array.reshape(()))
        return _cut(names[at], _SHORT) if 0 <= at < len(names) else str(at)
    return _cut(str(label) if array is None else _numbers(array), _SHORT)


def _file_of(dataset: Any, sample: int) -> str | None:
    """Returns the file of a sample, where the data set lists them, as torchvision's folders do."""
    listed = getattr(dataset, "samples", None)
    if not isinstance(listed, list) or sample >= len(listed):
        return None
    first = listed[sample][0] if isinstance(listed[sample], (tuple, list)) else listed[sample]
    return first if isinstance(first, str) else None


def _said(error: BaseException) -> str:
    """Returns the message of an error; some have none that can be had."""
    try:
        return str(error)
    except Exception:
        return "without a message"


def _cut(text: str, most: int) -> str:
    text = text_of(text[: most + 1])
    return text if len(text) <= most else text[: most - 3] + "..."
