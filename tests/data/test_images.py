"""The readers give real images, whole and standardised."""

import pytest
import torch

from auxilearn.data import Images, mnist_5k, sklearn_digits


@pytest.mark.parametrize(("read", "size"), [(mnist_5k, 5000), (sklearn_digits, 1797)])
def test_images_are_standardised_and_have_ten_classes(read: object, size: int) -> None:
    images = read()  # type: ignore[operator]
    assert isinstance(images, Images)
    assert images.pixels.shape == (size, 14, 14)
    assert abs(float(images.pixels.mean())) < 1e-5
    assert float(images.pixels.std()) == pytest.approx(1.0, abs=1e-5)
    assert sorted(set(images.classes.tolist())) == list(range(10))


def test_pictures_belong_to_their_classes() -> None:
    # A nearest-mean classifier on half of the images is right on most of the others: pixels and labels fit together.
    images = mnist_5k()
    known, asked = slice(0, None, 2), slice(1, None, 2)
    x, y = images.pixels[known].flatten(1), images.classes[known]
    means = torch.stack([x[y == c].mean(0) for c in range(10)])
    guess = torch.cdist(images.pixels[asked].flatten(1), means).argmin(1)
    assert float((guess == images.classes[asked]).float().mean()) > 0.75
