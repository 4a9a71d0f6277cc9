import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn.experiments.reproduce.generated._maxl import focal, maxl_gradient
from auxilearn.experiments.reproduce.generated._networks import Scores, Student
from auxilearn.generators import ConditionalLabels, Hierarchy


class _Net(nn.Module):
    """A tiny network with BatchNorm, in float64."""

    def __init__(self, outputs: list[int], seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Tanh()).double()
            self.heads = nn.ModuleList(nn.Linear(5, n).double() for n in outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        h = self.body(images)
        return tuple(head(h) for head in self.heads)


def _outer(weights: list[Tensor], phi: list[Tensor], x: Tensor, y: Tensor, *, rate: float, penalty: float) -> float:
    """Write down MAXL's outer loss with matrices alone: no module, no functional call, no library loss."""

    def body(w: list[Tensor]) -> Tensor:
        h = x.flatten(1) @ w[0].T + w[1]
        h = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt() * w[2] + w[3]
        return h.tanh()

    scores = body(phi) @ phi[4].T + phi[5]
    block = scores.reshape(len(x), 3, 2)[torch.arange(len(x)), y]  # the two sub-classes of the class
    inside = block.exp() / block.exp().sum(1, keepdim=True)
    labels = torch.zeros(len(x), 3, 2, dtype=x.dtype)
    labels[torch.arange(len(x)), y] = inside
    labels = labels.flatten(1)

    def focal_of(logits: Tensor, targets: Tensor) -> Tensor:
        p = logits.exp() / logits.exp().sum(1, keepdim=True)
        return (-targets * (1 - p) ** 2 * p.log()).sum(1).mean()

    one_hot = functional.one_hot(y, 3).double()
    w = [weight.clone().requires_grad_() for weight in weights]
    h = body(w)
    now = focal_of(h @ w[4].T + w[5], one_hot) + focal_of(h @ w[6].T + w[7], labels)
    slopes = torch.autograd.grad(now, w)
    ahead = [weight - rate * slope for weight, slope in zip(weights, slopes, strict=True)]
    later = focal_of(body(ahead) @ ahead[4].T + ahead[5], one_hot)
    mean = labels.mean(0)
    return float(later + penalty * (mean * mean.log()).sum())


def test_the_gradient_is_that_of_finite_differences_through_the_step_ahead() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 3, 2, 2, generator=generator, dtype=torch.float64)
    y = torch.arange(9) % 3
    student = Student(_Net([3, 6], 0))
    labels = ConditionalLabels(Scores(_Net([6], 1)), Hierarchy.even(3, 2))
    rate, penalty, step = 0.3, 0.2, 1e-5
    found = maxl_gradient(student, labels, x, y, rate=rate, penalty=penalty)
    weights = [p.detach().clone() for p in student.parameters()]
    phi = [p.detach().clone() for p in labels.parameters()]
    largest = 0.0
    for k, g in enumerate(found):
        for at in range(g.numel()):
            values = []
            for sign in (1, -1):
                moved = [p.clone() for p in phi]
                moved[k].view(-1)[at] += sign * step
                values.append(_outer(weights, moved, x, y, rate=rate, penalty=penalty))
            exact = (values[0] - values[1]) / (2 * step)
            assert math.isclose(float(g.reshape(-1)[at]), exact, rel_tol=1e-5, abs_tol=1e-8)
            largest = max(largest, abs(exact))
    assert largest > 1e-3
    # Without the step ahead only the penalty would be left.
    alone = maxl_gradient(student, labels, x, y, rate=0.0, penalty=penalty)
    assert max(float((a - b).abs().max()) for a, b in zip(found, alone, strict=True)) > 1e-3


def test_the_focal_loss_of_a_class() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    p = [math.e / (math.e + 1), 1 / (1 + math.exp(2))]
    wanted = torch.tensor([-((1 - q) ** 2) * math.log(q) for q in p])
    assert torch.allclose(focal(logits, torch.tensor([0, 0])), wanted)
