"""Images and sounds of any of the usual types as small data links for a page."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIDE = 64  # pixels of a thumbnail
_RATE, _SECONDS = 8000, 2.0
_LEAST_RATE = 4000
_SHORTEST = 0.1  # seconds
_CHANNELS = (1, 3, 4)


def is_image(content: Any) -> bool:
    """Returns whether this is an image of Pillow."""
    return str(type(content).__module__).startswith("PIL.")


def array_of(content: Any) -> NDArray[Any] | None:
    """Returns an array of numbers, of a tensor, an array or a list; None: it is none."""
    if hasattr(content, "detach"):  # a tensor
        content = content.detach().cpu()
        content = content.float() if "bfloat16" in str(content.dtype) else content
        content = content.numpy()
    if not isinstance(content, (np.ndarray, np.generic, list, tuple, int, float)):
        return None
    try:
        array = np.asarray(content)
    except ValueError:  # of uneven lists
        return None
    return array if array.dtype.kind in "iufb" and array.size else None


def is_picture(array: NDArray[Any]) -> bool:
    """Returns whether an array has the shape of an image: (h, w), (c, h, w) or (h, w, c)."""
    if array.ndim == 2:
        return bool(min(array.shape) >= 4)
    if array.ndim != 3:
        return False
    channels_first = array.shape[0] in _CHANNELS and min(array.shape[1:]) >= 4
    channels_last = array.shape[-1] in _CHANNELS and min(array.shape[:2]) >= 4
    return channels_first or channels_last


def picture(array: NDArray[Any]) -> Any:
    """Returns an array as an image; values other than 0 to 1 and bytes are stretched to fit."""
    from PIL import Image

    if array.ndim == 3 and array.shape[0] in _CHANNELS and array.shape[-1] not in _CHANNELS:
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype != np.uint8:
        values = np.nan_to_num(array.astype(np.float64))
        low, high = float(values.min()), float(values.max())
        if array.dtype.kind != "f" or low < 0 or high > 1:
            values = (values - low) / (high - low if high > low else 1.0)
        array = (values * 255).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))


def thumbnail(image: Any) -> str:
    """Returns a small copy of an image of Pillow, as a data link."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    small = small.convert("RGBA" if "A" in small.getbands() else "RGB")
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80)
    return _link("image/webp", buffer.getvalue())


def is_sound(wave_form: Any, rate: Any) -> bool:
    """Returns whether these are samples of a sound, (t,) or (channels, t), and their rate.

    A sound lasts for a tenth of a second at least: a few features and a target are none.
    """
    if not isinstance(rate, int) or rate < _LEAST_RATE:
        return False
    array = array_of(wave_form)
    if array is None or array.ndim not in (1, 2) or array.shape[-1] < rate * _SHORTEST:
        return False
    return array.ndim == 1 or len(array) <= 8


def sound_of(content: Any) -> tuple[NDArray[np.float64], int] | None:
    """Returns the samples of a sound, float64 (t,), and how many there are in a second.

    Takes what Hugging Face (`array`, `sampling_rate`) and torchaudio (samples, rate) give.
    """
    if isinstance(content, Mapping) and {"array", "sampling_rate"} <= set(content):
        content = content["array"], int(content["sampling_rate"])
    if not isinstance(content, tuple) or len(content) != 2 or not is_sound(*content):
        return None
    array = array_of(content[0])
    if array is None:
        return None
    values = array.astype(np.float64)
    if array.dtype.kind in "iu":
        values /= float(np.iinfo(array.dtype).max)
    return (values.mean(axis=0) if values.ndim == 2 else values), int(content[1])


def wav(samples: NDArray[np.float64], rate: int) -> str:
    """Returns the first two seconds of a sound as a data link, in telephone quality."""
    step = max(1, round(rate / _RATE))
    some = np.nan_to_num(samples[: int(rate * _SECONDS)])
    some = some[: len(some) // step * step].reshape(-1, step).mean(axis=1)
    loudest = float(np.abs(some).max(initial=0.0))
    some = some / loudest if loudest > 0 else some
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(rate // step)
        file.writeframes((some * 127 + 128).astype(np.uint8).tobytes())
    return _link("audio/wav", buffer.getvalue())


def _link(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
