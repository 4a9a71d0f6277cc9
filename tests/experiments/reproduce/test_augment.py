import pytest
import torch
import torchvision
from torch import Tensor

from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._augment import CIFAR, IMAGENET, Colours, CropFlip, FreshViews

PLAIN = Colours((0.0, 0.0, 0.0), (1 / 255,) * 3)  # bytes stay as they are


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, side: int) -> Tensor:
    return torch.randint(256, (count, 3, side, side), generator=seeded(9), dtype=torch.uint8)


def places(view: Tensor, picture: Tensor, crop: int) -> list[tuple[int, int, bool]]:
    """Everywhere where a view can have been cut."""
    found: list[tuple[int, int, bool]] = []
    for top in range(picture.shape[1] - crop + 1):
        for left in range(picture.shape[2] - crop + 1):
            piece = picture[:, top : top + crop, left : left + crop].float()
            for mirrored in (False, True):
                if torch.allclose(view, piece.flip(-1) if mirrored else piece, atol=1e-3):
                    found.append((top, left, mirrored))
    return found


def test_every_view_is_a_crop_and_all_crops_are_as_likely() -> None:
    picture = pictures(1, 6)
    views = CropFlip(4, colours=PLAIN)(picture.expand(1800, -1, -1, -1), seeded())
    counts: dict[tuple[int, int, bool], int] = {}
    for view in views:
        (place,) = places(view, picture[0], 4)
        counts[place] = counts.get(place, 0) + 1
    assert len(counts) == 3 * 3 * 2
    assert all(60 <= count <= 145 for count in counts.values())  # 100 each; a deviation is 10


def test_images_of_a_batch_are_cropped_apart_from_each_other() -> None:
    batch = pictures(8, 12)
    views = CropFlip(8, colours=PLAIN)(batch, seeded())
    found = [places(view, picture, 8) for view, picture in zip(views, batch, strict=True)]
    assert all(len(place) == 1 for place in found)
    assert len({place[0] for place in found}) > 4


def test_padding_is_black_and_flips_can_be_left_out() -> None:
    picture = pictures(1, 32)
    views = CropFlip(32, pad=4, flip=False, colours=PLAIN)(picture.expand(40, -1, -1, -1), seeded())
    padded = torch.zeros(3, 40, 40)
    padded[:, 4:36, 4:36] = picture[0]
    for view in views[:10]:
        ((_, _, mirrored),) = places(view, padded.to(torch.uint8), 32)
        assert not mirrored


@pytest.mark.parametrize("colours", [IMAGENET, CIFAR])
@pytest.mark.parametrize("side", [40, 41])
def test_the_centre_is_torchvisions(side: int, colours: Colours) -> None:
    batch = pictures(3, side)
    theirs = torchvision.transforms.Compose(
        [
            torchvision.transforms.ToPILImage(),
            torchvision.transforms.CenterCrop(32),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize(*colours),
        ]
    )
    found = CropFlip(32, colours=colours)(batch, None)
    assert torch.allclose(found, torch.stack([theirs(picture) for picture in batch]), atol=1e-5)


def test_it_is_a_function_of_the_generator_alone() -> None:
    batch, augment = pictures(16, 40), CropFlip(32)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = augment(batch, seeded(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, augment(batch, seeded(3)))
    assert not torch.equal(one, augment(batch, seeded(4)))


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match=r"at least 32 pixels wide and high. They are 20 × 20"):
        CropFlip(32)(pictures(1, 20), None)


def test_fresh_views_go_on_where_the_random_state_stood() -> None:
    views = FreshViews(pictures(10, 20), torch.arange(10), augment=CropFlip(16))
    torch.manual_seed(5)
    views.__getitems__([0, 1])
    state = torch.get_rng_state()
    first, rows = views.__getitems__([7, 2, 2])
    torch.set_rng_state(state)
    second, _ = views.__getitems__([7, 2, 2])
    assert rows.tolist() == [7, 2, 2]
    assert torch.equal(first, second)
    assert not torch.equal(first, views.__getitems__([7, 2, 2])[0])
    view, row = views[4]
    assert view.shape == (3, 16, 16)
    assert int(row) == 4


def test_a_loader_serves_batches_as_they_are() -> None:
    views = FreshViews(pictures(10, 20), torch.arange(10), augment=CropFlip(16))
    batches = list(views.loader(4))
    assert [tuple(pixels.shape) for pixels, _ in batches] == [(4, 3, 16, 16), (4, 3, 16, 16), (2, 3, 16, 16)]
    assert torch.cat([rows for _, rows in batches]).tolist() == list(range(10))
