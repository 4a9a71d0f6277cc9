"""A rank's share of a mean over samples, where ranks have different numbers of them."""

import torch
from torch import Tensor
from torch import distributed as dist

from auxilearn import _ranks
from auxilearn._checks import explain
from auxilearn.distributed._ranks import Group
from auxilearn.errors import InputError


def share(loss: Tensor, count: int | Tensor, *, group: Group = None) -> Tensor:
    r"""Scale a rank's mean loss so that the mean over ranks is the mean over all samples.

    .. math:: \ell_r \cdot \frac{n_r R}{\sum_s n_s}

    Ranks whose batches differ in size, or in how many rows carry a label, otherwise count alike. The scaled loss is
    right for training under ``DistributedDataParallel``, too. All ranks must call it.

    Args:
        loss: The mean over this rank's samples; or several, ``(K,)``.
        count: :math:`n_r`, how many samples that is; or one number for each loss. Where it is 0 the loss is taken for
            0, whatever it is.
        group: The ranks; by default all of them. ``"local"``, or a single process, changes nothing.

    Returns:
        The scaled loss, of the same shape.

    Raises:
        InputError: If a count is negative, or no rank has a sample.

    Example:
        >>> import torch
        >>> share(torch.tensor(2.0), count=5)  # one process: nothing to share
        tensor(2.)
    """
    total = torch.as_tensor(count, dtype=torch.float64, device=loss.device).clone()
    mine, size = total.clone(), 1
    total = torch.where(total < 0, torch.nan, total)  # seen by all ranks
    if not isinstance(group, str) and (group is not None or _ranks.several() > 1):
        size = dist.get_world_size(group)
        dist.all_reduce(total, group=group)
    rule = "`count` must be the number of samples, and some rank must have one."
    if not bool((total > 0).all()):
        finding = f"This rank has {mine.tolist()}, all together have {total.tolist()}."
        raise InputError(explain(rule, finding, "Leave a loss without samples out of the step."))
    return torch.where(mine > 0, loss, torch.zeros_like(loss)) * (mine * size / total).to(loss.dtype)
