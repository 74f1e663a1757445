"""A user's own folder: what is read, and what is said of one that does not fit."""

import numpy as np
import pytest
from folder import image, rows
from PIL import Image


def test_rows_are_read(tmp_path):
    (tmp_path / "train.jsonl").write_text(
        '{"image": "a.png", "text": "ä"}\n{"image": "b", "text": ""}\n'
    )
    assert rows(tmp_path, "train", ["image", "text"])[0] == {"image": "a.png", "text": "ä"}


def test_a_missing_file_is_named_with_what_is_needed(tmp_path):
    with pytest.raises(FileNotFoundError, match="test.jsonl is not there; needed: on each line a"):
        rows(tmp_path, "test", ["image", "text"])


@pytest.mark.parametrize("line", ["{", "[1]", '{"image": "a.png"}', ""])
def test_a_line_of_another_form_is_named(tmp_path, line):
    (tmp_path / "train.jsonl").write_text('{"image": "a", "text": "b"}\n' + line + "\n")
    with pytest.raises(ValueError, match="line 2 is .*; needed: .*object with image, text"):
        rows(tmp_path, "train", ["image", "text"])


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(ValueError, match="train.jsonl is empty"):
        rows(tmp_path, "train", ["text"])


def test_a_field_that_should_be_a_text_and_is_none_is_named(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": 7}\n')
    assert len(rows(tmp_path, "train", ["text"])) == 2
    with pytest.raises(ValueError, match="line 2: text is 7, and no text"):
        rows(tmp_path, "train", ["text"], texts=["text"])


def test_images_are_scaled(tmp_path):
    Image.fromarray(np.full((10, 20, 3), 7, np.uint8)).save(tmp_path / "a.png")
    assert image(tmp_path / "a.png", (8, 4)).shape == (4, 8, 3)
    grey = image(tmp_path / "a.png", (8, 4), "L")
    assert grey.shape == (4, 8)
    assert (grey == 7).all()
