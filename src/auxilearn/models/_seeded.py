"""Parts whose initial weights torch or torchvision draws, each under a seed of its own."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import nn

from auxilearn._checks import count, explain
from auxilearn.errors import InputError

_Part = TypeVar("_Part", bound=nn.Module)


def seeded(seed: int, part: str, build: Callable[[], _Part]) -> _Part:
    """Build a part of a network under a seed of its own, so that the weights of one part never depend on another.

    Args:
        seed: The network's seed.
        part: The part's name, e.g. ``"body"`` or ``"head 0"``.
        build: What draws the weights from torch's global random state, which is put back afterwards.

    Returns:
        The part, on the CPU.
    """
    digest = hashlib.sha256(f"{seed} {part}".encode()).digest()
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        # `torch.manual_seed` would seed the accelerators, too, which are not put back.
        torch.default_generator.manual_seed(int.from_bytes(digest[:7], "big"))
        return build()


def seeded_heads(seed: int, outputs: Sequence[int], build: Callable[[int], nn.Module]) -> nn.ModuleList:
    """Build one head for each task; more heads, or wider ones, change nothing in those before them.

    Args:
        seed: The network's seed.
        outputs: The channels of each head.
        build: A head from its channels.

    Returns:
        The heads.

    Raises:
        InputError: If there is no head, or one without channels.
    """
    if not outputs:
        rule, finding = "A network must have at least one head.", "`outputs` is empty."
        raise InputError(explain(rule, finding, "Name the channels of each head, e.g. `outputs=[13, 1, 3]`."))
    sizes("outputs", outputs)
    return nn.ModuleList(seeded(seed, f"head {k}", lambda n=n: build(n)) for k, n in enumerate(outputs))


def sizes(name: str, values: Iterable[int]) -> None:
    """Check a list of sizes.

    Args:
        name: The argument's name, for messages.
        values: The sizes.

    Raises:
        InputError: If one is no whole number of at least 1.
    """
    for i, value in enumerate(values):
        count(f"{name}[{i}]", value, 1)


def divisible(images: torch.Tensor, factor: int) -> None:
    """Check the shape of a batch of colour images.

    Args:
        images: Shape (B, 3, H, W).
        factor: What H and W must be divisible by.

    Raises:
        InputError: If they are not, or the shape is another one.
    """
    height, width = _sides(images)
    if height % factor or width % factor:
        rule, cure = f"The sides of the images must be divisible by {factor}.", "Crop, pad or resize them."
        raise InputError(explain(rule, f"They are {height} × {width}.", cure))


def square(images: torch.Tensor, side: int) -> None:
    """Check that a batch of colour images is of the one size that a network takes.

    Args:
        images: Shape (B, 3, side, side).
        side: The side.

    Raises:
        InputError: If it is not.
    """
    height, width = _sides(images)
    if (height, width) != (side, side):
        rule = f"The images must be {side} × {side}."
        raise InputError(explain(rule, f"They are {height} × {width}.", "Crop, pad or resize them."))


def _sides(images: torch.Tensor) -> tuple[int, int]:
    if images.dim() != 4 or images.shape[1] != 3 or not images.numel():
        rule, finding = "Images must have the shape (B, 3, H, W).", f"It is {tuple(images.shape)}."
        raise InputError(explain(rule, finding, "Stack colour images, channels before rows and columns."))
    return images.shape[2], images.shape[3]
