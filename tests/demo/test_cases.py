"""What the cases plant: always the same, in the images that are trained on alone."""

from dataclasses import replace

import numpy as np
import pytest

from seta.demo.cases import planted
from seta.demo.data import load_digits
from seta.demo.settings import CASES, DemoError


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.mark.parametrize("case", CASES)
def test_a_case_is_always_the_same_and_leaves_the_images_to_measure_on(case, digits):
    before = digits.train_labels.copy()
    first, again = planted(case, digits), planted(case, digits)
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.train_labels, again.train_labels)
    assert first.test is digits.test and first.test_labels is digits.test_labels
    np.testing.assert_array_equal(digits.train_labels, before)
    assert len(first.notes) == (first.name != digits.name) == (case != "plain")


def test_three_labels_in_ten_are_wrong_and_none_of_them_by_chance_right(digits):
    found = planted("wrong", digits)
    wrong = found.train_labels != digits.train_labels
    assert wrong.sum() == round(0.3 * len(wrong))
    assert set(np.unique(found.train_labels)) == set(range(10))
    assert found.train is digits.train
    assert found.notes[0].startswith("323 of the 1,078 labels trained on are wrong")


def test_each_class_has_fewer_images_than_the_one_before_it(digits):
    found = planted("unequal", digits)
    sizes = np.bincount(found.train_labels)
    assert (np.diff(sizes) < 0).all() and (sizes.max(), sizes.min()) == (107, 5)
    kept = {image.tobytes() for image in digits.train}
    assert all(image.tobytes() in kept for image in found.train)


@pytest.mark.parametrize("case", ["wrong", "unequal"])
def test_images_of_one_label_are_refused(case, digits):
    one = replace(digits, classes=1, train_labels=np.zeros_like(digits.train_labels))
    with pytest.raises(DemoError, match=f"--case {case}: needs images of two labels at least"):
        planted(case, one)
