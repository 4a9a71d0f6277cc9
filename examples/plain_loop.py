"""Learn the weights of five auxiliary losses in an ordinary training loop, on the digits of scikit-learn.

The main task has 50 labels; 30 train, 20 are held back for the outer step. On 1,000 other images there are labels of a
good and a random annotator, two attributes of the digit, and a badly scaled regression on noise.

Run it: ``python examples/plain_loop.py`` (it needs the extra ``experiments``)
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from auxilearn.combiners import Linear, Standardized
from auxilearn.data import few_labels, sklearn_digits
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order

LOSSES = ("main", "good annotator", "random annotator", "parity", "at least five", "noise")


def main(steps: int = 400) -> dict[str, float]:
    """Train, print the weights and the accuracy, and return the weights."""
    torch.manual_seed(0)
    images = sklearn_digits()
    split = few_labels(images.classes, seed=0, per_class=5, pool=1000)
    x, y = images.pixels.flatten(1), images.classes
    train, held_back, pool = split.main[:30], split.main[30:], split.pool

    wrong = torch.rand(len(pool)) < 0.1
    good = torch.where(wrong, (y[pool] + torch.randint(1, 10, (len(pool),))) % 10, y[pool])
    random = torch.randint(10, (len(pool),))
    parity, five = (y[pool] % 2).float(), (y[pool] >= 5).float()
    noise = 100 * torch.randn(len(pool))

    model = nn.Sequential(nn.Linear(196, 64), nn.SiLU(), nn.Linear(64, 13))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    combiner = Standardized(Linear(len(LOSSES)))
    meta = MetaOptimizer(torch.optim.Adam(combiner.parameters(), lr=0.1))

    def losses(rows: Tensor) -> Tensor:
        out = model(x[pool[rows]])
        return torch.stack(
            [
                cross_entropy(model(x[train])[:, :10], y[train]),
                cross_entropy(out[:, :10], good[rows]),
                cross_entropy(out[:, :10], random[rows]),
                binary_cross_entropy_with_logits(out[:, 10], parity[rows]),
                binary_cross_entropy_with_logits(out[:, 11], five[rows]),
                (out[:, 12] - noise[rows]).square().mean(),
            ]
        )

    for step in range(steps):
        rows = torch.randint(len(pool), (64,))
        optimizer.zero_grad()
        combiner(losses(rows)).backward()
        optimizer.step()
        if step % 10 == 9:
            with second_order(model):
                train_loss = combiner(losses(rows))
                main_loss = cross_entropy(model(x[held_back])[:, :10], y[held_back])
            meta.step(train_loss, main_loss, model.parameters(), combiner.parameters())

    accuracy = float((model(x[split.test])[:, :10].argmax(1) == y[split.test]).float().mean())
    weights = dict(zip(LOSSES, map(float, combiner.combiner.weights), strict=True))
    print("\n".join(f"{name:<18}{weight:6.2f}" for name, weight in weights.items()))
    print(f"test accuracy {100 * accuracy:.1f} %")
    return weights


if __name__ == "__main__":
    main()
