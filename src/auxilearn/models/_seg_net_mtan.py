"""SegNet with an attention network for each task."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn.models._seeded import seeded, seeded_heads
from auxilearn.models._seg_net_body import SegNetBody, Stage, conv_norm_relu, dense_head, xavier


@final
class SegNetMTAN(nn.Module):
    """The multi-task attention network: each task masks the features of a shared SegNet, stage by stage.

    A task's mask of a stage is computed from what the stage's first convolution found and from what the task took from
    the stage before; it multiplies what the stage's last one found. The 3 × 3 convolutions that carry a task's features
    from stage to stage are shared by the tasks.

    Args:
        outputs: The channels of each head.
        seed: The seed of the initial weights; the global random state is not touched. More heads change nothing in
            those before them, nor in what is shared.
        widths: The channels of the stages.

    Raises:
        InputError: If there is no head or no stage, or a size is below 1.

    Example:
        >>> net = SegNetMTAN([13, 1, 3], seed=0, widths=(4, 4, 4, 4, 4))
        >>> [tuple(y.shape) for y in net(torch.zeros(2, 3, 32, 64))]
        [(2, 13, 32, 64), (2, 1, 32, 64), (2, 3, 32, 64)]

    References:
        Liu, Johns, Davison, "End-to-end multi-task learning with attention", CVPR 2019.
    """

    def __init__(self, outputs: Sequence[int], *, seed: int, widths: Sequence[int] = (64, 128, 256, 512, 512)) -> None:
        super().__init__()
        self.body = seeded(seed, "body", lambda: SegNetBody(widths))
        down, up = (*widths[1:], widths[-1]), (widths[0], *widths[:-1])
        self.carry_down = seeded(seed, "down", lambda: _carriers(widths, down))
        self.carry_up = seeded(seed, "up", lambda: _carriers(widths, up))
        self.heads = seeded_heads(seed, outputs, lambda n: _Task(widths, n))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of every pixel.

        Args:
            images: Shape (B, 3, H, W); with five stages, H and W are divisible by 32.

        Returns:
            One tensor for each head, of shape (B, outputs[k], H, W): raw, without softmax or normalisation.
        """
        encoded, decoded = self.body(images)
        return tuple(task(encoded, decoded, self.carry_down, self.carry_up) for task in self.heads)


@final
class _Task(nn.Module):
    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        above = (widths[0], *widths[:-1])
        seen = (widths[0], *(2 * w for w in widths[1:]))
        self.encode = nn.ModuleList(_mask(s, w) for s, w in zip(seen, widths, strict=True))
        self.decode = nn.ModuleList(_mask(w + a, a) for w, a in zip(widths, above, strict=True))
        for masks in (self.encode, self.decode):
            xavier(masks, nn.init.xavier_normal_)
        self.predict = dense_head(widths[0], outputs)

    def forward(
        self, encoded: list[Stage], decoded: list[Stage], carry_down: nn.ModuleList, carry_up: nn.ModuleList
    ) -> Tensor:
        taken = encoded[0].first
        for i, (stage, mask, carry) in enumerate(zip(encoded, self.encode, carry_down, strict=True)):
            seen = torch.cat((stage.first, taken), 1) if i else stage.first
            taken = functional.max_pool2d(carry(mask(seen) * stage.last), 2)
        for stage, mask, carry in zip(decoded[::-1], self.decode[::-1], carry_up[::-1], strict=True):
            larger = functional.interpolate(taken, scale_factor=2, mode="bilinear", align_corners=True)
            taken = mask(torch.cat((stage.above, carry(larger)), 1)) * stage.last
        return self.predict(taken)


def _mask(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.Sigmoid(),
    )


def _carriers(below: Sequence[int], above: Sequence[int]) -> nn.ModuleList:
    carriers = nn.ModuleList(conv_norm_relu(b, a) for b, a in zip(below, above, strict=True))
    xavier(carriers, nn.init.xavier_normal_)
    return carriers
