"""Data that the chapters train on."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from scaleinv.book import data
from scaleinv.book.data import batches, device, digits, text, text_batches


def test_digits_are_scikit_learns_in_the_unit_interval():
    images, labels = digits(on="cpu")
    assert images.shape == (1797, 8, 8) and images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    assert labels.shape == (1797,) and labels.dtype == torch.int64 and set(labels.tolist()) == set(range(10))
    assert np.array_equal(16 * images.numpy(), load_digits().images)
    assert np.array_equal(labels.numpy(), load_digits().target)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_digits_have_the_dtype_and_device_asked_for_and_are_copies(dtype):
    images, labels = digits(dtype)
    assert images.dtype == dtype and images.device.type == labels.device.type == device(dtype).type
    assert torch.equal(images.double().cpu(), digits(torch.float64, "cpu")[0])  # sixteenths are exact in each
    images.zero_(), labels.zero_()
    assert digits(dtype)[0].any() and digits(dtype)[1].any()


def test_the_same_seed_draws_the_same_batches_and_another_seed_draws_others():
    def drawn(**arguments):
        return [torch.cat([images.flatten(), labels.double()]) for images, labels in batches(3, **arguments, **kept)]

    kept = {"dtype": torch.float64, "on": "cpu"}
    before = drawn()
    torch.manual_seed(1)
    assert all(map(torch.equal, before, drawn())) and all(map(torch.equal, before, drawn(seed=0)))
    assert not any(map(torch.equal, before, drawn(seed=1)))
    assert not torch.equal(before[0], before[1])


def test_batches_are_rows_of_the_digits_on_the_device():
    images, labels = digits()
    drawn = list(batches(3, 7))
    assert len(drawn) == 3
    for some_images, some_labels in drawn:
        assert some_images.shape == (7, 8, 8) and some_labels.shape == (7,)
        assert some_images.device.type == some_labels.device.type == device().type
        same_image = (images[:, None] == some_images).all(dim=(2, 3))
        assert (same_image & (labels[:, None] == some_labels)).any(dim=0).all()


def test_drawing_batches_does_not_change_the_global_random_state():
    before = torch.random.get_rng_state()
    list(batches(2)), list(text_batches(2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_characters_to_predict_are_those_that_follow():
    characters = text()
    assert characters.ndim == 1 and len(characters) > 1e5 and 0 <= characters.min() and characters.max() < 128
    written = bytes(characters.tolist())
    for shown, following in text_batches(2, 3, 40, on="cpu"):
        assert shown.shape == following.shape == (3, 40)
        for one, next_one in zip(shown.tolist(), following.tolist(), strict=True):
            assert bytes(one + next_one[-1:]) in written and one[1:] == next_one[:-1]


@pytest.mark.parametrize(
    "cuda, mps, dtype, kind",
    [
        (True, True, torch.float32, "cuda"),
        (True, True, torch.float64, "cuda"),
        (False, True, torch.float32, "mps"),
        (False, True, torch.bfloat16, "mps"),
        (False, True, torch.float64, "cpu"),
        (False, False, torch.float32, "cpu"),
    ],
)
def test_the_device_is_the_first_available_one_that_has_the_dtype(monkeypatch, cuda, mps, dtype, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.mps, "is_available", lambda: mps)
    assert data.device(dtype) == torch.device(kind)
