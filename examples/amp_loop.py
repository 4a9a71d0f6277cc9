"""Learn the weights of losses in float16, with a gradient scaler for each level, on the digits of scikit-learn.

The task is that of ``plain_loop.py``. Forward passes run under autocast, the weights stay in float32. Losses are scaled
so that float16 gradients do not underflow: for the weights as ever, for the outer step by ``grad_scaler=``, which takes
the losses *unscaled* and divides the scale out of the result. A scale that is too large shows as an overflow: the step
is skipped, and ``update()`` halves the scale. On a GPU replace "cpu" by "cuda".

Run it: ``python examples/amp_loop.py`` (it needs the extra ``experiments``)
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from auxilearn.combiners import Linear, Standardized
from auxilearn.data import few_labels, sklearn_digits
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order

LOSSES = ("main", "good annotator", "random annotator", "parity")


def main(steps: int = 400, dtype: torch.dtype = torch.float16, init_scale: float = 2.0**16) -> dict[str, float]:
    """Train, print the weights and how many steps were skipped, and return the weights."""
    torch.manual_seed(0)
    images = sklearn_digits()
    split = few_labels(images.classes, seed=0, per_class=5, pool=1000)
    x, y = images.pixels.flatten(1), images.classes
    train, held_back, pool = split.main[:30], split.main[30:], split.pool
    wrong = torch.rand(len(pool)) < 0.1
    good = torch.where(wrong, (y[pool] + torch.randint(1, 10, (len(pool),))) % 10, y[pool])
    random = torch.randint(10, (len(pool),))

    model = nn.Sequential(nn.Linear(196, 64), nn.SiLU(), nn.Linear(64, 11))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    combiner = Standardized(Linear(len(LOSSES)))
    meta = MetaOptimizer(torch.optim.Adam(combiner.parameters(), lr=0.1))
    half = dtype is torch.float16
    inner = torch.amp.GradScaler("cpu", init_scale=init_scale, enabled=half)
    outer = torch.amp.GradScaler("cpu", init_scale=init_scale, enabled=half)

    def losses(rows: Tensor) -> Tensor:
        out = model(x[pool[rows]])
        return torch.stack(
            [
                cross_entropy(model(x[train])[:, :10], y[train]),
                cross_entropy(out[:, :10], good[rows]),
                cross_entropy(out[:, :10], random[rows]),
                binary_cross_entropy_with_logits(out[:, 10], (y[pool[rows]] % 2).float()),
            ]
        )

    skipped = 0
    for step in range(steps):
        rows = torch.randint(len(pool), (64,))
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=half):
            loss = combiner(losses(rows))
        inner.scale(loss).backward()
        inner.step(optimizer)
        inner.update()
        if step % 10 == 9:
            with second_order(model), torch.autocast("cpu", dtype, enabled=half):
                train_loss = combiner(losses(rows))
                main_loss = cross_entropy(model(x[held_back])[:, :10], y[held_back])
            meta.step(train_loss, main_loss, model.parameters(), combiner.parameters(), grad_scaler=outer)
            outer.update()
            skipped += meta.step_was_skipped

    weights = dict(zip(LOSSES, map(float, combiner.combiner.weights), strict=True))
    print("\n".join(f"{name:<18}{weight:6.2f}" for name, weight in weights.items()))
    print(f"{skipped} of {steps // 10} outer steps skipped; scales {inner.get_scale():g} and {outer.get_scale():g}")
    return weights


if __name__ == "__main__":
    main()
