"""Four problems on real data that ships in packages, in float64; φ is the logarithm of a weight for each loss.

The train loss is ``losses[0] + exp(φ) @ losses[1:] + decay/2 ‖W‖²``; the outer loss is ``losses[0]`` on held-back rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from budgets import LADDER, QUICK
from networks import ResidualNet, Transformer
from texts import PACKAGES, docstrings
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.optim import Adam, Optimizer

from auxilearn.data import Images, mnist_5k
from auxilearn.experiments.given._labels import attributes, bits
from auxilearn.models import MLP

F64 = torch.float64


class Problem(ABC):
    """Data, a network, its losses, and how it is trained.

    Attributes:
        quick: Whether all is small.
        phi: Logarithms of the weights of all losses but the first.
        exact: Whether the system is the exact Hessian; else it is Gauss and Newton's matrix, for the Hessian of a
            network in training is indefinite, and its inverse no truth.
        damping: Added to the diagonal of the system.
        decay: Of the explicit penalty ½ decay ‖W‖² in the train loss, added to the diagonal of Gauss and Newton's.
        train_rows: The first rows are for training, the others are held back.
        batch: Rows of a training step.
        system_rows: Rows on which the system is posed.
        outer_rows: Held-back rows that the outer loss is computed on.
        steps: The training steps after which the states are taken.
    """

    phi: Tensor
    quick: bool
    exact: bool = False
    damping: float = 1e-2
    decay: float = 1e-3
    train_rows: int
    rows: int
    batch: int = 64
    system_rows: int = 256
    outer_rows: int = 256
    steps: Sequence[int]
    lr: float = 3e-3

    @property
    def budgets(self) -> Sequence[int]:
        """The budgets that are tried, of those that a method has."""
        return QUICK if self.quick else LADDER

    @abstractmethod
    def network(self) -> nn.Module:
        """Make the untrained network; the caller has seeded torch."""

    @abstractmethod
    def inputs(self, rows: Tensor) -> Tensor:
        """Return what the network is given."""

    @abstractmethod
    def losses(self, model: nn.Module, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return all mean losses of some rows, the main one first, (K,)."""

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Make the optimizer."""
        return Adam(model.parameters(), lr=self.lr)

    def combined(self, model: nn.Module, losses: Tensor) -> Tensor:
        """Return the train loss."""
        total = losses[0] + self.phi.exp() @ losses[1:]
        if not self.decay:
            return total
        return total + self.decay / 2 * torch.stack([p.square().sum() for p in model.parameters()]).sum()


class Logistic(Problem):
    """Which package does a docstring come from? Softmax regression on TF-IDF, a penalty for each of 50 groups of words.

    Words are grouped by the number of documents that hold them; ``losses[1 + g]`` is the sum of the squared weights of
    group ``g``.
    """

    exact, damping, decay = True, 0.0, 0.0
    lr = 1e-2

    def __init__(self, *, quick: bool) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.quick = quick
        number, features, groups = (150, 500, 10) if quick else (600, 10_000, 50)
        texts = [(text, k) for k, name in enumerate(PACKAGES) for text in docstrings(name, number)]
        order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist()
        self.train_rows, self.rows = 2 * len(order) // 3, len(order)
        words = TfidfVectorizer(max_features=features, sublinear_tf=True)
        words.fit([texts[i][0] for i in order[: self.train_rows]])
        self.x = torch.from_numpy(words.transform([texts[i][0] for i in order]).toarray()).to(F64)
        self.y = torch.tensor([texts[i][1] for i in order])
        rank = (self.x[: self.train_rows] > 0).sum(0).argsort(stable=True).argsort(stable=True)
        self.group = rank * groups // self.x.shape[1]  # (features,)
        # Rare words are penalised more, as a prior of equal evidence would have it.
        self.phi = torch.linspace(-8.0, -12.0, groups, dtype=F64).requires_grad_()
        self.steps = (30,) if quick else (20, 100, 500)
        self.system_rows = 100 if quick else 384

    def network(self) -> nn.Module:
        """Make a linear map."""
        return nn.Linear(self.x.shape[1], len(PACKAGES)).to(F64)

    def inputs(self, rows: Tensor) -> Tensor:
        """Return the TF-IDF features."""
        return self.x[rows]

    def losses(self, model: nn.Module, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return the cross entropy and the squared weights of each group."""
        (weight, _) = model.parameters()  # (classes, features)
        squares = weight.square().sum(0)
        by_group = squares.new_zeros(len(self.phi)).index_add(0, self.group, squares)
        return torch.cat([cross_entropy(outputs, self.y[rows])[None], by_group])


class _Digits(Problem):
    # Main task: the digit. Auxiliary: ten attributes of the digit, ten coin flips that say nothing.
    outputs = 30

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        images: Images = mnist_5k()
        order = torch.randperm(len(images.classes), generator=torch.Generator().manual_seed(0))
        self.x, self.y = images.pixels[order].to(F64), images.classes[order]
        coins = bits(self.y, 10, torch.Generator().manual_seed(1))
        self.answers = torch.cat([attributes(self.y), coins], 1).to(F64)  # (N, 20)
        self.phi = torch.full((20,), -1.0, dtype=F64, requires_grad=True)
        self.train_rows, self.rows = 1000, 5000
        self.steps = (40,) if quick else (20, 120, 600)
        if quick:
            self.system_rows = self.outer_rows = 16

    def inputs(self, rows: Tensor) -> Tensor:
        """Return the images."""
        return self.x[rows]

    def losses(self, model: nn.Module, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return the cross entropy of the digit and of the twenty binary tasks."""
        binary = binary_cross_entropy_with_logits(outputs[:, 10:], self.answers[rows], reduction="none")
        return torch.cat([cross_entropy(outputs[:, :10], self.y[rows])[None], binary.mean(0)])


class Perceptron(_Digits):
    """Digits by a perceptron with two hidden layers."""

    def network(self) -> nn.Module:
        """Make 18,000 weights."""
        return MLP(196, outputs=self.outputs, widths=(64, 64)).to(F64)


class Residual(_Digits):
    """Digits by a residual conv net with group norms."""

    def __init__(self, *, quick: bool) -> None:
        super().__init__(quick=quick)
        self.blocks = 1 if quick else 2
        if not quick:
            self.system_rows = 128  # convolutions in float64 are slow on a CPU

    def network(self) -> nn.Module:
        """Make 3,400 weights."""
        return ResidualNet(self.outputs, channels=8, blocks=self.blocks).to(F64)


class Characters(Problem):
    """The next character of docstrings by a causal transformer; a row is a piece of text, and counts as all its tokens.

    Auxiliary losses: the kind of the next character, its place in its word, the character before, and three random
    labels of the token.
    """

    kinds, places, guesses = 5, 8, 4

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        length, pieces = (12, 300) if quick else (24, 3000)
        text = " ".join(t for name in PACKAGES for t in docstrings(name, 40 if quick else 150)).lower()
        text = " ".join(text.split())[: pieces * (length + 1)]
        counts = {c: text.count(c) for c in set(text)}
        self.known = sorted(counts, key=lambda c: (-counts[c], c))[:47]
        code = {c: i for i, c in enumerate(self.known)}
        self.vocabulary = len(self.known) + 1  # the last stands for all others
        tokens = torch.tensor([code.get(c, len(self.known)) for c in text])
        kind = torch.tensor([_kind(c) for c in text])
        self.length = length
        self.labels = [
            tokens.roll(-1),
            kind.roll(-1),
            torch.tensor(_places(text, self.places)).roll(-1),
            tokens.roll(1),
            *torch.randint(self.guesses, (3, len(tokens)), generator=torch.Generator().manual_seed(0)),
        ]
        pieces = len(tokens) // length - 1
        starts = length * torch.randperm(pieces, generator=torch.Generator().manual_seed(1))
        where = starts[:, None] + torch.arange(length)  # (pieces, length)
        self.x, self.labels = tokens[where], [t[where] for t in self.labels]
        self.train_rows, self.rows = 2 * pieces // 3, pieces
        self.sizes = [self.vocabulary, self.kinds, self.places, self.vocabulary, *[self.guesses] * 3]
        self.phi = torch.full((len(self.sizes) - 1,), -1.0, dtype=F64, requires_grad=True)
        self.batch, self.system_rows, self.outer_rows = (16, 8, 8) if quick else (32, 32, 32)
        self.steps = (40,) if quick else (50, 300, 1200)
        self.width, self.layers = (12, 1) if quick else (24, 2)

    def network(self) -> nn.Module:
        """Make 13,000 weights."""
        net = Transformer(self.vocabulary, self.length, sum(self.sizes), width=self.width, heads=2, layers=self.layers)
        return net.to(F64)

    def inputs(self, rows: Tensor) -> Tensor:
        """Return the tokens."""
        return self.x[rows]

    def losses(self, model: nn.Module, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return the cross entropy of each task, the next character first."""
        heads = outputs.flatten(0, 1).split(self.sizes, 1)
        return torch.stack([cross_entropy(z, y[rows].flatten()) for z, y in zip(heads, self.labels, strict=True)])


def _kind(c: str) -> int:
    return 0 if c == " " else 1 if c in "aeiou" else 2 if c.isalpha() else 3 if c.isdigit() else 4


def _places(text: str, most: int) -> list[int]:
    found, place = [], 0
    for c in text:
        place = 0 if c == " " else min(place + 1, most - 1)
        found.append(place)
    return found


PROBLEMS: dict[str, Callable[..., Problem]] = {
    "logistic": Logistic,
    "mlp": Perceptron,
    "resnet": Residual,
    "transformer": Characters,
}
