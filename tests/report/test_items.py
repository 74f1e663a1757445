"""Samples of data sets of any kind, as a page shows them."""

import base64
import io
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from seta.report.inspection.items import Items, labels_in, names_in


def shown(item, names=(), show=None):
    return Items([item], names, show).load([0])[0]


def image_of(found):
    assert found["src"].startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found["src"].split(",")[1]))))


PICTURE = np.linspace(0, 1, 8 * 12).reshape(8, 12)


@pytest.mark.parametrize(
    "content",
    [
        Image.fromarray((PICTURE * 255).astype(np.uint8)),
        (PICTURE * 255).astype(np.uint8),
        PICTURE.astype(np.float32),
        PICTURE * 20 - 3,  # normalized
        torch.from_numpy(PICTURE).bfloat16()[None],
        torch.from_numpy(PICTURE).expand(3, 8, 12),
        np.repeat(PICTURE[..., None], 3, axis=2),
    ],
    ids=["PIL", "bytes", "floats", "normalized", "tensor", "colour-first", "colour-last"],
)
@pytest.mark.parametrize("way", ["tuple", "dict", "alone"])
def test_an_image_is_a_thumbnail(content, way):
    item = {"tuple": (content, 1), "dict": {"image": content, "label": 1}, "alone": content}[way]
    found = shown(item, ["cat", "dog"])
    pixels = image_of(found)
    assert pixels.shape[:2] == (8, 12)
    assert pixels[0, 0].max() < 40 and pixels[-1, -1].min() > 215
    assert found.get("label") == (None if way == "alone" else "dog")


def test_a_large_image_becomes_small():
    assert max(image_of(shown(Image.new("RGBA", (900, 300)))).shape[:2]) == 64


@pytest.mark.parametrize(
    ("item", "kind", "text"),
    [
        ("hello", "text", "hello"),
        ({"text": "a" * 999, "label": 0}, "text", "a" * 297 + "..."),
        ({"input_ids": list(range(50))}, "tokens", "0 1 2"),
        ((torch.arange(4), torch.tensor(2)), "tokens", "0 1 2 3"),
        (np.array([0.25, 1.5]), "numbers", "0.25 1.5"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "text", "hi"),
        ({"odd": object}, "text", "object"),
        ((), "text", "()"),
        (None, "text", "None"),
        (3, "tokens", "3"),
    ],
)
def test_texts_and_tokens_are_shown_in_short(item, kind, text):
    found = shown(item)
    assert found["kind"] == kind and text in found["text"] and len(found["text"]) <= 320


@pytest.mark.parametrize("way", ["hugging face", "torchaudio"])
def test_a_sound_can_be_played(way):
    samples = np.sin(np.arange(48_000) / 10)
    item = {
        "hugging face": {"audio": {"array": samples, "sampling_rate": 16_000}, "label": 1},
        "torchaudio": (torch.from_numpy(samples)[None], 16_000, "yes", "speaker", 0),
    }[way]
    found = shown(item, ["no", "yes"])
    assert found["kind"] == "audio" and found["label"] == "yes"
    with wave.open(io.BytesIO(base64.b64decode(found["src"].split(",")[1]))) as file:
        assert (file.getframerate(), file.getnframes()) == (8_000, 16_000)


def test_features_and_a_large_target_are_no_sound():
    found = shown((np.random.default_rng(0).random(12).astype(np.float32), 12_345))
    assert found["kind"] == "numbers" and found["label"] == "12345"


def test_only_some_sounds_are_kept():
    item = {"audio": {"array": np.zeros(8_000), "sampling_rate": 8_000}}
    kinds = [one["kind"] for one in Items([item] * 30).load(range(30)).values()]
    assert kinds == ["audio"] * 20 + ["text"] * 10


def test_a_page_has_room_for_so_many_images():
    noise = np.random.default_rng(0).integers(0, 255, (900, 64, 64, 3), np.uint8)
    found = Items(noise).load(range(900))
    assert 100 < len(found) < 900 and sum(len(one["src"]) for one in found.values()) < 710_000


def test_the_user_says_what_is_shown():
    found = shown({"input_ids": [1, 2], "label": 1}, show=lambda item: f"{len(item)} parts")
    assert (found["text"], found["label"]) == ("2 parts", "1")
    found = shown("x", show=lambda item: 1 / 0)
    assert found == {"kind": "error", "text": "ZeroDivisionError: division by zero"}


@pytest.mark.parametrize(
    ("label", "text"),
    [(1, "b"), (5, "5"), (-1, "-1"), ("b", "b"), (torch.tensor([1]), "b"), ([0, 1], "0 1"),
     (np.int64(0), "a"), (True, "b"), (0.5, "0.5")],
)  # fmt: skip
def test_labels_are_named_where_that_is_known(label, text):
    assert shown(("x", label), ["a", "b"])["label"] == text


def test_an_item_is_named_by_its_file():
    assert shown({"text": "x", "file_name": "a.txt"})["name"] == "a.txt"

    class Folder(list):
        pass

    folder = Folder([("x", 0)])
    folder.samples = [("cats/1.png", 0)]
    assert Items(folder).load([0])[0]["name"] == "cats/1.png"


def test_items_are_loaded_once():
    asked = []

    class Counting:
        def __getitem__(self, at):
            asked.append(at)
            return "x"

    items = Items(Counting())
    items.load([1, 2, 1])
    items.load([2, 3])
    assert asked == [1, 2, 3]


def test_labels_of_data_sets_are_found_without_loading():
    class Set:
        def __init__(self, **entries):
            vars(self).update(entries)

        def __len__(self):
            return 3

        def __getitem__(self, at):
            raise AssertionError("loaded")

    for dataset in (Set(targets=[0, 1, 0]), Set(labels=np.array([0, 1, 0]))):
        assert labels_in(dataset, 3).tolist() == [0, 1, 0]
    tensors = torch.utils.data.TensorDataset(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
    assert labels_in(tensors, 3).tolist() == [0, 1, 0]
    part = torch.utils.data.Subset(tensors, [2, 1])
    assert labels_in(part, 2).tolist() == [0, 1]
    for dataset in (Set(), Set(targets=[[0], [1], [0]]), Set(targets=[0.5, 1, 2]), [1, 2, 3]):
        assert labels_in(dataset, 3) is None
    assert names_in(torch.utils.data.Subset(Set(classes=["a", "b"]), [0])) == ["a", "b"]
