"""Bad input: the right error with rule, finding and cure, and a world that is bit for bit as it was."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 - its usual name
from torch.utils.checkpoint import checkpoint

from auxilearn import BilevelProblem, MetaOptimizer, hypergradient, unrolled, usefulness
from auxilearn.curvature import FiniteDifference, GaussNewton, Hessian, Streamed
from auxilearn.errors import AuxilearnError, InputError, SecondOrderError, SolverError, SolverWarning
from auxilearn.safety import second_order
from auxilearn.solvers import ConjugateGradient, Dense, Identity, Neumann, Nystrom, OptimizerMetric, WarmStart
from support import DEVICE, DTYPE

K = 3
INF, NAN = math.inf, math.nan


class World:
    """A network with BatchNorm and dropout, a combiner of its K losses, and both optimizers after a real step."""

    def __init__(self, **settings: Any) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(24, 4).to(DEVICE, DTYPE)
        self.y = torch.randn(24, K).to(DEVICE, DTYPE)
        body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.25), nn.Linear(6, K))
        self.net = body.to(DEVICE, DTYPE)
        self.combiner = nn.Linear(K, 1, bias=False).to(DEVICE, DTYPE)
        self.combiner.weight.data.abs_()
        self.primary = torch.optim.Adam(self.net.parameters(), lr=1e-2)
        self.aux = torch.optim.Adam(self.combiner.parameters(), lr=1e-2)
        # It remembers two vectors between its calls.
        self.solver = WarmStart(Neumann())
        self.train().backward()
        self.primary.step()
        self.step(MetaOptimizer(self.aux, solver=self.solver))
        self.meta = MetaOptimizer(self.aux, **{"solver": self.solver, **settings})

    def losses(self) -> Tensor:
        with second_order(self.net):
            return (self.net(self.x) - self.y).square()  # (B, K)

    def train(self) -> Tensor:
        return self.combiner(self.losses()).mean()

    def val(self) -> Tensor:
        return self.losses()[:, 0].mean()

    def arguments(self, **changes: Any) -> dict[str, Any]:
        default = {
            "train_loss": self.train(),
            "val_loss": self.val(),
            "parameters": self.net.parameters(),
            "aux_params": self.combiner.parameters(),
        }
        return default | changes

    def step(self, meta: MetaOptimizer | None = None, **changes: Any) -> list[Tensor] | None:
        return (meta or self.meta).step(**self.arguments(**changes))

    def snapshot(self) -> dict[str, Any]:
        weights = [*self.net.parameters(), *self.combiner.parameters()]
        return copy.deepcopy(
            {
                "W and buffers": self.net.state_dict(),
                "φ": self.combiner.state_dict(),
                "grad": [p.grad for p in weights],
                "requires_grad": [p.requires_grad for p in weights],
                "primary optimizer": self.primary.state_dict(),
                "auxiliary optimizer": self.aux.state_dict(),
                "solver": self.meta.solver.state_dict(),
                "report": self.meta.report,
                "training": [m.training for m in self.net.modules()],
                "random state": torch.get_rng_state(),
                "random states of GPUs": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
                "grad mode": torch.is_grad_enabled(),
            }
        )


def same(a: Any, b: Any) -> bool:
    """Compare two nests of containers bit by bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def assert_unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = [name for name in before if not same(before[name], after[name])]
    assert not changed


Call = Callable[[], object]
Prepare = Callable[[World], Call]


class Case(NamedTuple):
    """A name, what prepares a call in a world, and what the call must raise."""

    name: str
    prepare: Prepare
    message: str
    error: type[Exception] = InputError
    settings: Mapping[str, Any] = MappingProxyType({})


def steps(**changes: Callable[[World], Any]) -> Prepare:
    """Call `MetaOptimizer.step` with some arguments replaced by what is made of the world."""

    def prepare(world: World) -> Call:
        arguments = world.arguments(**{name: make(world) for name, make in changes.items()})
        return lambda: world.meta.step(**arguments)

    return prepare


def differentiates(**changes: Callable[[World], Any]) -> Prepare:
    """Call `hypergradient` likewise."""

    def prepare(world: World) -> Call:
        made = {name: make(world) for name, make in changes.items()}
        arguments = world.arguments(**made)
        arguments["params"] = arguments.pop("parameters")
        arguments.setdefault("solver", world.solver)
        return lambda: hypergradient(**arguments)

    return prepare


def scores(change: Callable[[World, Tensor, Tensor, Tensor], Any], **settings: Any) -> Prepare:
    """Call `usefulness` with one batch of losses changed."""

    def prepare(world: World) -> Call:
        batch = change(world, world.train(), world.val(), world.losses().mean(0))
        settings.setdefault("solver", world.solver)
        return lambda: usefulness(batch, params=world.net.parameters(), **settings)

    return prepare


def makes(make: Callable[[World], object]) -> Prepare:
    """Call a constructor."""
    return lambda world: lambda: make(world)


def solves(make: Callable[[World], Any]) -> Prepare:
    """Take a step with another solver."""

    def prepare(world: World) -> Call:
        world.meta.solver = make(world)
        return steps()(world)

    return prepare


def unrolls(steps: Any = 2, lr: Any = 0.1, momentum: Any = 0.0, **changes: Any) -> Prepare:
    """Call `unrolled` on a small problem."""

    def prepare(world: World) -> Call:
        default = {
            "train_loss": lambda W, phi: (W[0] - phi[0]).square().sum(),
            "val_loss": lambda W, phi: W[0].square().sum(),
            "params": (torch.ones(2),),
            "aux_params": (torch.ones(2),),
        }
        return lambda: unrolled(BilevelProblem(**(default | changes)), steps=steps, lr=lr, momentum=momentum)

    return prepare


def used(values: Iterator[Any]) -> Iterator[Any]:
    list(values)
    return values


def stranger(*shape: int, dtype: torch.dtype = DTYPE) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape, dtype=dtype, device=DEVICE))


def frozen(module: nn.Module) -> Iterator[Tensor]:
    return module.requires_grad_(False).parameters()


class Square(torch.autograd.Function):
    """An operator as many extensions write it: its gradient is plain code."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad


def attention(world: World) -> Tensor:
    query = world.net(world.x)[None, None]
    return F.scaled_dot_product_attention(query, query, query)[0, 0]


def weighted(world: World, outputs: Tensor) -> Tensor:
    """Return a train loss of the outputs of the network, (B, K)."""
    return world.combiner((outputs - world.y).square()).mean()


def outside(compute: Callable[[World], Tensor]) -> Callable[[World], Tensor]:
    """Compute a loss without `second_order`, in evaluation mode, so that only kernels differ."""

    def loss(world: World) -> Tensor:
        world.net.eval()
        found = compute(world)
        world.net.train()
        return found

    return loss


def compiled(world: World) -> Tensor:
    net = torch.compile(world.net, backend="aot_eager")
    return weighted(world, net(world.x))


def steep(world: World) -> Tensor:
    """Return an outer loss that is finite, with a slope that is not."""
    return world.val() + (0 * world.losses()).sum().sqrt()


def after_backward(world: World) -> Tensor:
    loss = world.train()
    loss.backward()
    return loss


def after_optimizer(world: World) -> Tensor:
    loss = world.train()
    loss.backward(retain_graph=True)
    world.primary.step()
    return loss


def second_time(world: World) -> Call:
    world.meta.solver = Identity()
    arguments = world.arguments(val_loss=world.val() + world.combiner.weight.square().sum())
    arguments["parameters"] = list(world.net.parameters())
    arguments["aux_params"] = list(world.combiner.parameters())
    world.meta.step(**arguments)
    return lambda: world.meta.step(**arguments)


def without_update(world: World) -> Call:
    scaler = torch.amp.GradScaler(DEVICE.type)
    world.step(grad_scaler=scaler)
    arguments = world.arguments(grad_scaler=scaler)
    return lambda: world.meta.step(**arguments)


def released(world: World) -> Hessian:
    operator = Hessian(world.train(), world.net.parameters())
    operator.release()
    return operator


def sharing(world: World) -> Iterator[Tensor]:
    losses = world.losses().mean(0)
    return (losses[k] for k in range(2))


def by_hand(world: World, **settings: Any) -> Hessian:
    return Hessian(world.train(), world.net.parameters(), **settings)


def diagonal(world: World, value: float) -> list[Tensor]:
    return [torch.full_like(p, value) for p in world.net.parameters()]


def half(world: World) -> tuple[list[Tensor], Callable[[], Tensor]]:
    w = stranger(3, dtype=torch.bfloat16)
    return [w], lambda: w.square().sum()


LIST = "must be an iterable of tensors"
SCALAR = "must be a scalar tensor with a graph"
TWICE = r"The training loss must be twice differentiable.*"

TENSORS = [
    Case(
        "no parameters", steps(parameters=lambda w: []), r"`parameters` must hold at least one.*empty.*ask for it again"
    ),
    Case("no auxiliary parameters", steps(aux_params=lambda w: []), r"`aux_params` must hold at least one.*empty"),
    Case("used generator", steps(parameters=lambda w: used(w.net.parameters())), r"empty\. .*generator that was used"),
    Case("used generator of φ", steps(aux_params=lambda w: used(w.combiner.parameters())), r"`aux_params`.*generator"),
    Case(
        "repeated parameters",
        steps(parameters=lambda w: [*w.net.parameters(), w.net[0].weight]),
        r"`parameters` must not repeat a tensor\. 1 of 7 are repeats\. Remove duplicates",
    ),
    Case("repeated φ", steps(aux_params=lambda w: 2 * [w.combiner.weight]), r"`aux_params` must not repeat.*1 of 2"),
    Case("module", steps(parameters=lambda w: w.net), rf"`parameters` {LIST}\. It is a module\. Pass its `.parameters"),
    Case("module for φ", steps(aux_params=lambda w: w.combiner), rf"`aux_params` {LIST}\. It is a module\. Pass its"),
    Case("one tensor", steps(parameters=lambda w: w.net[0].weight), r"It is a single tensor\. Put it in a list"),
    Case("dict", steps(parameters=lambda w: dict(w.net.named_parameters())), r"It is a `dict`\. Pass a list"),
    Case("state dict", steps(parameters=lambda w: w.net.state_dict()), r"It is a `OrderedDict`.*\.parameters"),
    Case("named", steps(parameters=lambda w: w.net.named_parameters()), r"It holds a `tuple`.*not `.named_parameters"),
    Case("method not called", steps(parameters=lambda w: w.net.parameters), r"It is a `method`\. Call it"),
    Case("string", steps(parameters=lambda w: "net.weight"), r"It is a `str`"),
    Case("strings", steps(parameters=lambda w: ["0.weight"]), r"It holds a `str`\. Pass tensors"),
    Case("numbers", steps(parameters=lambda w: w.x[0].tolist()), r"It holds a `float`\. Pass tensors"),
    Case("None", steps(parameters=lambda w: None), r"It is a `NoneType`\. Pass a list"),
    Case("optimizer", steps(parameters=lambda w: w.primary), r"It is a `Adam`\. Pass a list.*\.parameters"),
    Case("param groups", steps(parameters=lambda w: w.primary.param_groups), r"It holds a `dict`\. Pass tensors"),
    Case("list of lists", steps(parameters=lambda w: [[w.net[0].weight]]), r"It holds a `list`\. Make one list"),
    Case("all frozen", steps(parameters=lambda w: frozen(w.net)), r"requires a gradient\. All 6 are frozen\."),
    Case("φ frozen", steps(aux_params=lambda w: frozen(w.combiner)), r"`aux_params`.*All 1 are frozen\."),
    Case("integers", steps(parameters=lambda w: [torch.ones(2, dtype=torch.int64)]), r"floating-point.*int64.*labels"),
    Case(
        "complex",
        steps(parameters=lambda w: [stranger(2, dtype=torch.complex64)]),
        r"must be real tensors\. One has dtype torch.complex64\. Keep the real and imaginary parts",
    ),
    Case(
        "dtypes",
        steps(parameters=lambda w: [*w.net.parameters(), stranger(2, dtype=torch.bfloat16)]),
        r"must share one dtype\. They have torch.bfloat16, .*master weights",
    ),
    Case(
        "devices",
        steps(parameters=lambda w: [*w.net.parameters(), nn.Parameter(torch.ones(2, dtype=DTYPE, device="meta"))]),
        r"must share one device\. They lie on .*meta\. Move the model",
    ),
    Case(
        "swapped levels",
        steps(parameters=lambda w: w.combiner.parameters(), aux_params=lambda w: w.net.parameters()),
        r"`aux_params` must belong to the wrapped optimizer\. 6 of 6 tensors do not, and would never move\. Build",
    ),
    Case(
        "swapped levels without an optimizer",
        differentiates(parameters=lambda w: w.combiner.parameters(), aux_params=lambda w: w.net.parameters()),
        r"`val_loss` must depend on the parameters that reach the train loss\. It depends on none of the 1\.",
    ),
    Case(
        "one network at both levels",
        differentiates(aux_params=lambda w: w.net.parameters()),
        r"belong to the inner level\. All 6 are in `aux_params`, too\. Did you pass one network's parameters twice",
    ),
    Case("foreign φ", steps(aux_params=lambda w: [stranger(2)]), r"wrapped optimizer\. 1 of 1 .*add_param_group"),
    Case(
        "partly foreign φ",
        steps(aux_params=lambda w: [w.combiner.weight, stranger(2)]),
        r"wrapped optimizer\. 1 of 2 tensors do not",
    ),
]

LOSSES = [
    Case(
        "train loss a vector",
        steps(train_loss=lambda w: w.losses().mean(0)),
        rf"`train_loss` {SCALAR}\. .*\(3,\).*mean",
    ),
    Case("val loss a vector", steps(val_loss=lambda w: w.losses().mean(0)), rf"`val_loss` {SCALAR}\. .*\(3,\).*mean"),
    Case(
        "train loss a float", steps(train_loss=lambda w: w.train().item()), rf"`train_loss` {SCALAR}\. .*`float`.*item"
    ),
    Case(
        "val loss a float", steps(val_loss=lambda w: w.val().item()), rf"`val_loss` {SCALAR}\. It is a `float`\. .*item"
    ),
    Case(
        "train loss a function", steps(train_loss=lambda w: w.train), r"`train_loss` .*`method`.*call a loss function"
    ),
    Case("val loss a function", steps(val_loss=lambda w: w.val), r"`val_loss` .*`method`.*call a loss function"),
    Case("train loss a list", steps(train_loss=lambda w: [w.train()]), rf"`train_loss` {SCALAR}\. It is a `list`"),
    Case("val loss None", steps(val_loss=lambda w: None), rf"`val_loss` {SCALAR}\. It is a `NoneType`"),
    Case("no val loss", steps(val_loss=lambda w: []), r"`val_loss` must depend.*There was none to read"),
    Case("val losses of floats", steps(val_loss=lambda w: [1.0]), rf"`val_loss` {SCALAR}\. It is a `float`"),
    Case(
        "train loss NaN", steps(train_loss=lambda w: w.train() * NAN), r"`train_loss` must be finite\. It is nan\. Look"
    ),
    Case(
        "train loss inf", steps(train_loss=lambda w: w.train() * INF), r"`train_loss` must be finite\. It is inf\. Look"
    ),
    Case("val loss NaN", steps(val_loss=lambda w: w.val() * NAN), r"`val_loss` must be finite\. It is nan\. Look"),
    Case("val loss inf", steps(val_loss=lambda w: w.val() * INF), r"`val_loss` must be finite\. It is inf\. Look"),
    Case("second val loss NaN", steps(val_loss=lambda w: [w.val(), w.val() * NAN]), r"`val_loss` must be finite"),
    Case(
        "train loss detached",
        steps(train_loss=lambda w: w.train().detach()),
        r"`train_loss` .*cut from the graph.*no_grad",
    ),
    Case("val loss detached", steps(val_loss=lambda w: w.val().detach()), r"`val_loss` .*cut from the graph.*no_grad"),
    Case(
        "train loss under no_grad",
        steps(train_loss=lambda w: torch.no_grad()(w.train)()),
        r"`train_loss` .*cut from the",
    ),
    Case(
        "train loss under inference_mode",
        steps(train_loss=lambda w: torch.inference_mode()(w.train)()),
        r"`train_loss` .*cut from the graph.*inference_mode",
    ),
    Case(
        "val loss of other parameters",
        steps(val_loss=lambda w: stranger(2).sum()),
        r"`val_loss` must depend on the parameters.*none of the 6\. Compute it with the model that is trained",
    ),
    Case(
        "train loss of other parameters",
        steps(train_loss=lambda w: w.combiner.weight.sum()),
        r"`params` must reach `train_loss`\. None of the 6 tensors does\. Did you detach the loss, or pass",
    ),
    Case(
        "φ not in the train loss",
        steps(train_loss=lambda w: w.losses().mean()),
        r"`aux_params` must change how the train loss depends on .*None of its tensors does\. Compute `train_loss`",
    ),
    Case(
        "φ detached in the train loss",
        steps(train_loss=lambda w: (w.combiner.weight.detach() * w.losses()).mean()),
        r"`aux_params` must change .*Compute `train_loss` with the auxiliary network, undetached",
    ),
    Case(
        "swapped losses",
        steps(train_loss=World.val, val_loss=World.train),
        r"`aux_params` must change how the train loss depends on .*Are the two losses in order",
    ),
    Case(
        "φ a constant of the train loss",
        steps(train_loss=lambda w: w.losses().mean() + w.combiner.weight.square().sum()),
        r"`aux_params` must change how the train loss depends on the parameters\. None of its tensors does",
    ),
    Case(
        "graph freed by backward", steps(train_loss=after_backward), r"graphs .*freed, by `backward\(\)`.*losses anew"
    ),
    Case(
        "weights stepped since", steps(train_loss=after_optimizer), r"graphs .*changed in place.*optimizer.*losses anew"
    ),
    Case("same losses twice", second_time, r"graphs .*changed in place since"),
    Case("generator of losses with one graph", steps(val_loss=sharing), r"freed.*earlier loss of a generator"),
]

OPERATORS = [
    Case(
        "flash attention",
        steps(train_loss=outside(lambda w: weighted(w, attention(w)))),
        TWICE + r"`aten::_scaled_dot_product_\w+attention\w+` has no second derivative.*second_order\(model\)",
        SecondOrderError,
    ),
    Case(
        "once differentiable",
        steps(train_loss=lambda w: w.combiner(Square.apply(w.losses().sqrt())).mean()),
        TWICE + r"`Square` has no second derivative.*FiniteDifference",
        SecondOrderError,
    ),
    Case(
        "once differentiable, in usefulness",
        scores(lambda w, train, val, aux: [(train, val, Square.apply(aux))]),
        TWICE + r"`Square` has no second derivative",
        SecondOrderError,
    ),
    Case(
        "no derivative at all",
        steps(train_loss=lambda w: weighted(w, torch.igamma(w.losses() + 1, w.losses()))),
        TWICE + r"`igamma` has no second derivative",
        SecondOrderError,
    ),
    Case(
        "compiled module",
        steps(train_loss=outside(compiled)),
        r"twice differentiable, and torch.compile is not\. .*`model._orig_mod`.*set_stance.*FiniteDifference",
        SecondOrderError,
    ),
    Case(
        "re-entrant checkpointing",
        steps(train_loss=outside(lambda w: weighted(w, checkpoint(w.net, w.x.requires_grad_(), use_reentrant=True)))),
        TWICE + r"Re-entrant activation checkpointing .*use_reentrant=False.*second_order",
        SecondOrderError,
    ),
    Case(
        "damping beside an operator",
        differentiates(train_loss=by_hand, damping=lambda w: 0.1),
        r"`damping` belongs to the operator\. .*given besides\. Pass it where the operator is built",
    ),
    Case(
        "operator on φ",
        steps(train_loss=lambda w: Hessian(w.train(), [*w.net.parameters(), *w.combiner.parameters()])),
        r"An operator must not act on auxiliary parameters\. It does on some of `aux_params`\. Leave them out",
    ),
    Case("released operator", steps(train_loss=released), r"after `release\(\)`\. It was released\. Build a new one"),
    Case("class of an operator", steps(train_loss=lambda w: Hessian), rf"`train_loss` {SCALAR}"),
    Case("negative damping", differentiates(damping=lambda w: -1.0), r"`damping` must be finite and at least 0.*-1.0"),
    Case("damping NaN", differentiates(damping=lambda w: NAN), r"`damping` must be finite and at least 0.*nan"),
    Case("damping a string", differentiates(damping=lambda w: "0.1"), r"`damping` must be finite.*'0.1'"),
    Case("loss scale zero", differentiates(loss_scale=lambda w: 0.0), r"`loss_scale` must be finite and above 0"),
    Case(
        "finite differences in bfloat16",
        makes(lambda w: FiniteDifference(half(w)[1], half(w)[0])),
        r"need parameters in float32 or float64\. They are in torch.bfloat16, which rounds.*allow_low_precision",
    ),
    Case(
        "finite differences of a loss",
        makes(lambda w: FiniteDifference(torch.ones(1), w.net.parameters())),
        r"`closure` must be a function.*`Tensor`\. Pass `lambda",
    ),
    Case(
        "finite differences of no size",
        makes(lambda w: FiniteDifference(w.train, w.net.parameters(), step=0.0)),
        r"`step` must be finite and above 0",
    ),
    Case(
        "no batches",
        makes(lambda w: Streamed(lambda b: by_hand(w), [])),
        r"`batches` must hold at least.*empty\. An it",
    ),
    Case(
        "batches of losses",
        makes(lambda w: Streamed(lambda b: w.train(), [0])),
        r"`build` must return a curvature operator\. It returned a `Tensor`\. Return `Hessian",
    ),
    Case("no function of batches", makes(lambda w: Streamed(w.train(), [0])), r"`build` must be a function\. .*lambda"),
    Case(
        "batches of other parameters",
        steps(train_loss=lambda w: Streamed(lambda n: Hessian(w.train(), [*w.net.parameters()][:n]), [2, 1])),
        r"must act on the same parameters\. One acts on 1 tensors, the first batch's on 2\. Use batches",
    ),
    Case(
        "Gauss-Newton of other outputs",
        makes(lambda w: GaussNewton(w.train(), w.losses(), w.net.parameters())),
        r"`train_loss` must be computed from `outputs`\. It does not.*not a second forward pass",
    ),
    Case(
        "Gauss-Newton of detached outputs",
        makes(lambda w: GaussNewton(w.train(), w.losses().detach(), w.net.parameters())),
        r"`outputs` must be a tensor with a graph.*before `.detach\(\)`",
    ),
]

SETTINGS = [
    Case(
        "negative terms", makes(lambda w: Neumann(terms=-1)), r"`terms` must be an integer of at least 0\. It is -1\."
    ),
    Case("broken terms", makes(lambda w: Neumann(terms=2.5)), r"`terms` must be an integer.*2.5"),
    Case("alpha zero", makes(lambda w: Neumann(alpha=0.0)), r"`alpha` must be finite and above 0\. It is 0.0\."),
    Case("alpha NaN", makes(lambda w: Neumann(alpha=NAN)), r"`alpha` must be finite and above 0\. It is nan\."),
    Case("alpha misspelt", makes(lambda w: Neumann(alpha="auo")), r"`alpha` must be .*'auto'.*It is 'auo'\."),
    Case(
        "negative tolerance", makes(lambda w: Neumann(tolerance=-1)), r"`tolerance` must be finite and at least 0.*-1"
    ),
    Case(
        "tolerance of CG", makes(lambda w: ConjugateGradient(tolerance=-1)), r"`tolerance` must be finite and at least"
    ),
    Case("no first steps", makes(lambda w: Neumann(first_steps=0)), r"`first_steps` must be an integer of at least 1"),
    Case("no steps", makes(lambda w: ConjugateGradient(max_steps=0)), r"`max_steps` must be an integer of at least 1"),
    Case("rank zero", makes(lambda w: Nystrom(rank=0)), r"`rank` must be an integer of at least 1\. It is 0"),
    Case("size zero", makes(lambda w: Dense(max_size=0)), r"`max_size` must be an integer of at least 1"),
    Case("negative cutoff", makes(lambda w: Dense(cutoff=-1.0)), r"`cutoff` must be finite and at least 0"),
    Case(
        "solver by name", makes(lambda w: MetaOptimizer(w.aux, solver="cg")), r"`solver` must be a `L.*'cg'\. Make one"
    ),
    Case("solver's class", differentiates(solver=lambda w: Neumann), r"`solver` must.*the class `Neumann`\. Make one"),
    Case("warm start by name", makes(lambda w: WarmStart("cg")), r"`solver` must be a `LinearSolver`"),
    Case(
        "hpo_lr and solver",
        makes(lambda w: MetaOptimizer(w.aux, 0.1, solver=Neumann())),
        r"`hpo_lr` and `solver`.*Leave",
    ),
    Case("hpo_lr zero", makes(lambda w: MetaOptimizer(w.aux, 0.0)), r"`hpo_lr` must be finite and above 0"),
    Case("hpo_lr a solver", makes(lambda w: MetaOptimizer(w.aux, Neumann())), r"`hpo_lr` must be finite.*Neumann"),
    Case(
        "negative truncate_iter", makes(lambda w: MetaOptimizer(w.aux, 0.1, -1)), r"`truncate_iter` must be an integer"
    ),
    Case(
        "broken truncate_iter", makes(lambda w: MetaOptimizer(w.aux, 0.1, 3.0)), r"`truncate_iter` must be an int.*3.0"
    ),
    Case(
        "max_grad_norm zero",
        makes(lambda w: MetaOptimizer(w.aux, max_grad_norm=0)),
        r"`max_grad_norm` must be.*above 0",
    ),
    Case("max_grad_norm negative", makes(lambda w: MetaOptimizer(w.aux, max_grad_norm=-1)), r"`max_grad_norm` must be"),
    Case(
        "on_failure misspelt",
        makes(lambda w: MetaOptimizer(w.aux, on_failure="rais")),
        r"'warn', 'raise', 'skip'.*'rais'",
    ),
    Case(
        "on_failure in a call", differentiates(on_failure=lambda w: "ignore"), r"`on_failure` must be one of.*'ignore'"
    ),
    Case(
        "LBFGS with 20 evaluations",
        makes(lambda w: MetaOptimizer(torch.optim.LBFGS(w.combiner.parameters(), max_iter=20))),
        r"`LBFGS` can take one hypergradient a step\. It has `max_iter=20`.*Use `LBFGS\(\.\.\., max_iter=1\)`",
    ),
    Case(
        "LBFGS with a line search",
        makes(
            lambda w: MetaOptimizer(
                torch.optim.LBFGS(w.combiner.parameters(), max_iter=1, line_search_fn="strong_wolfe")
            )
        ),
        r"`LBFGS` can take one hypergradient a step\..*strong_wolfe.*without line search",
    ),
    Case(
        "SparseAdam",
        makes(lambda w: MetaOptimizer(torch.optim.SparseAdam(w.combiner.parameters()))),
        r"must take dense gradients\. `SparseAdam` does not\. Use `Adam`",
    ),
    Case(
        "parameters for an optimizer",
        makes(lambda w: MetaOptimizer(w.net.parameters())),
        r"`torch.optim.Optimizer`.*gen",
    ),
    Case(
        "an optimizer twice wrapped", makes(lambda w: MetaOptimizer(w.meta)), r"It is a `MetaOptimizer`\. E\.g\. `Adam"
    ),
    Case(
        "preconditioner of other shapes",
        solves(lambda w: Neumann(preconditioner=diagonal(w, 1.0)[1:])),
        r"must have the shapes of the parameters.*It has \[\(6,\), .*the parameters have \[\(6, 4\), .*same order",
    ),
    Case(
        "preconditioner of zeros",
        solves(lambda w: Neumann(preconditioner=diagonal(w, 0.0))),
        r"must be finite and positive in every entry\. Some entries are not\. Raise it",
    ),
    Case(
        "preconditioner NaN",
        solves(lambda w: Neumann(preconditioner=diagonal(w, NAN))),
        r"finite and positive in every",
    ),
    Case(
        "preconditioner a float", solves(lambda w: Neumann(preconditioner=0.1)), r"must be a list of tensors.*`float`"
    ),
    Case(
        "preconditioner a tensor", solves(lambda w: Neumann(preconditioner=w.x)), r"must be a list of tensors.*`Tensor`"
    ),
    Case(
        "preconditioner a bare optimizer",
        solves(lambda w: Neumann(preconditioner=w.primary)),
        r"an `OptimizerMetric` or a `CurvatureSketch`\. It is a `Adam`\. For an optimizer write",
    ),
    Case(
        "metric of an unknown optimizer",
        makes(lambda w: OptimizerMetric(torch.optim.Rprop(w.net.parameters()))),
        r"knows SGD, Adam, AdamW, RMSprop and Adagrad\. It got `Rprop`\. Use one of them",
    ),
    Case(
        "metric of a maximiser",
        makes(lambda w: OptimizerMetric(torch.optim.SGD(w.net.parameters(), maximize=True))),
        r"must be a minimisation\. The optimizer has `maximize=True`\. Negate",
    ),
    Case(
        "metric before the first step",
        solves(lambda w: Identity(preconditioner=OptimizerMetric(torch.optim.Adam(w.net.parameters())))),
        r"after its first step\. A parameter of shape \(6, 4\) has no state yet\. Take a training step before",
    ),
    Case(
        "metric of the other optimizer",
        solves(lambda w: Identity(preconditioner=OptimizerMetric(w.aux))),
        r"A parameter of shape \(6, 4\) is in none of its groups\. Pass the primary optimizer",
    ),
    Case(
        "Dense for many", solves(lambda w: Dense(max_size=10)), r"`Dense` takes at most 10 .*There are \d\d\. Use `Conj"
    ),
    Case(
        "Dense in half precision",
        makes(lambda w: Dense().solve(half_operator(), half_operator().gradient())),
        r"`Dense` needs parameters in float32 or float64\. They are in torch.bfloat16\. Use `Neumann`",
    ),
    Case(
        "scaler a bool", steps(grad_scaler=lambda w: True), r"must be a `torch.amp.GradScaler`\. It is a `bool`\. Pass"
    ),
    Case(
        "scaler without update", without_update, r"`grad_scaler` must be ready .*It says: .*Call its `update\(\)` after"
    ),
    Case(
        "divergence",
        steps(),
        r"needs a solve that converges\. The solve ended as `diverged`\. Use `Neumann\(alpha=\"auto\"\)`",
        SolverError,
        {"solver": Neumann(terms=6, alpha=100.0), "on_failure": "raise"},
    ),
    Case(
        "steep",
        steps(val_loss=steep),
        r"`non-finite`, and the result is not finite",
        SolverError,
        {"on_failure": "raise"},
    ),
]

OTHERS = [
    Case(
        "no batches to score", scores(lambda w, train, val, aux: []), r"`batches` must hold at least one batch\. .*used"
    ),
    Case(
        "a pair to score", scores(lambda w, train, val, aux: [(train, val)]), r"must hold triples.*Yield `\(train_loss"
    ),
    Case(
        "scores of matrices", scores(lambda w, train, val, aux: [(train, val, w.losses())]), r"K scalars\. .*\(24, 3\)"
    ),
    Case("scores of floats", scores(lambda w, train, val, aux: [(train, val, [1.0])]), r"must be K scalars.*'float'"),
    Case("scores of one float", scores(lambda w, train, val, aux: [(train, val, 1.0)]), r"must be K scalars.*'float'"),
    Case("scores of no loss", scores(lambda w, train, val, aux: [(train, val, [])]), r"must be K scalars.*\(0,\)"),
    Case("scores of NaN", scores(lambda w, t, v, a: [(t, v, a / a.new_tensor([1, 0, 1]))]), r"finite\. .*index \[1\]"),
    Case(
        "scores of changing losses",
        scores(lambda w, t, v, a: [(t, v, a), (w.train(), v, a[:2])]),
        r"There are 3, then 2",
    ),
    Case(
        "scores of another val loss", scores(lambda w, t, v, a: [(t, stranger(1).sum(), a)]), r"must reach `val_loss`"
    ),
    Case("scores with damping NaN", scores(lambda w, t, v, a: [(t, v, a)], damping=NAN), r"`damping` must be finite"),
    Case(
        "scores that diverge",
        scores(lambda w, t, v, a: [(t, v, a)], solver=Neumann(terms=6, alpha=100.0)),
        r"A score needs a solve that converges\. It ended as `diverged`\. Use damping",
        SolverError,
    ),
    Case("negative unrolled steps", unrolls(steps=-1), r"`steps` must be an integer of at least 0"),
    Case("unrolled rate zero", unrolls(lr=0.0), r"`lr` must be finite and above 0"),
    Case("negative momentum", unrolls(momentum=-0.5), r"`momentum` must be finite and at least 0"),
    Case("unrolled vector", unrolls(train_loss=lambda W, phi: W[0] - phi[0]), rf"`train_loss` {SCALAR}.*\(2,\)"),
    Case(
        "unrolled divergence",
        unrolls(300, 10.0, params=(torch.zeros(2),)),
        r"`train_loss` must be finite.*learning rate",
    ),
    Case(
        "unrolled without W",
        unrolls(train_loss=lambda W, phi: phi[0].sum()),
        r"must reach `train_loss`\. None of the 1",
    ),
    Case(
        "unrolled without φ", unrolls(train_loss=lambda W, phi: W[0].sum()), r"`aux_params` must act on a loss\. None"
    ),
    Case("problem without weights", unrolls(params=()), r"`params` must hold at least one tensor\. It is empty"),
    Case("problem of integers", unrolls(params=[torch.ones(2, dtype=torch.int64)]), r"`params` must be floating-point"),
    Case("problem of values", unrolls(val_loss=torch.ones(())), r"`val_loss` must be a function\. It is a `Tensor`"),
    Case(
        "problem of one module",
        makes(lambda w: BilevelProblem.from_modules(w.net, [w.combiner], w.train, w.val)),
        r"`modules` must be a list of modules\. It is a module\. Put it in a list",
    ),
]


def half_operator() -> Hessian:
    w = stranger(3, dtype=torch.bfloat16)
    return Hessian(w.square().sum(), [w])


CASES = [*TENSORS, *LOSSES, *OPERATORS, *SETTINGS, *OTHERS]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input_raises_and_changes_nothing(case: Case) -> None:
    world = World(**case.settings)
    call = case.prepare(world)
    before = world.snapshot()
    with pytest.raises(case.error, match=case.message) as caught:
        call()
    assert isinstance(caught.value, AuxilearnError)
    assert_unchanged(before, world.snapshot())


# What a failed solve does.

DIVERGING = {"solver": Neumann(terms=6, alpha=100.0)}


def moved(world: World, before: dict[str, Any]) -> bool:
    return not same(before["φ"], world.snapshot()["φ"])


def test_warn_warns_at_the_caller_and_steps_if_the_result_is_finite() -> None:
    world = World(**DIVERGING)
    before = world.snapshot()
    with pytest.warns(SolverWarning, match=r"converges\. The solve ended as `diverged`\. Use `Neumann"):
        world.step()
    assert moved(world, before)
    assert bool(world.combiner.weight.isfinite().all())
    assert world.meta.report is not None
    assert world.meta.report.failed


@pytest.mark.parametrize(("alpha", "fails"), [(0.1, False), (1.0, True)])
def test_an_explosion_along_negative_curvature_is_a_failure(alpha: float, fails: bool) -> None:
    w, phi = stranger(2), stranger(2)
    train = (w.new_tensor([1.0, -10.0]) * w**2).sum() / 2 - (phi * w).sum()
    solver = Neumann(terms=5, alpha=alpha)  # a step above 2/|λ|_max, or a moderate growth that training shows, too
    found = hypergradient(train, w.sum(), params=[w], aux_params=[phi], solver=solver, on_failure="skip")
    assert found.report.negative_curvature
    assert found.report.failed == fails
    assert found.usable != fails


def test_the_warning_of_a_call_points_at_the_call() -> None:
    world = World()
    with pytest.warns(SolverWarning) as caught:
        differentiates(val_loss=steep)(world)()
    assert caught[0].filename == __file__


def test_skip_leaves_phi_alone_and_reports() -> None:
    world = World(**DIVERGING, on_failure="skip")
    before = world.snapshot()
    grads = world.step(return_grads=True)
    assert grads is not None
    after = world.snapshot()
    assert after.pop("report").failed
    assert_unchanged({name: before[name] for name in after}, after)


@pytest.mark.parametrize("on_failure", ["warn", "raise", "skip"])
def test_a_hypergradient_that_is_not_finite_never_reaches_phi(on_failure: str) -> None:
    world = World(on_failure=on_failure)
    before = world.snapshot()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolverWarning)
        try:
            grads = world.step(val_loss=steep(world), return_grads=True)
        except SolverError:
            assert on_failure == "raise"
        else:
            assert grads is not None
            assert not any(bool(g.any()) for g in grads)
    after = world.snapshot()
    before.pop("report"), after.pop("report")
    assert_unchanged(before, after)


@pytest.mark.parametrize("on_failure", ["warn", "raise", "skip"])
def test_an_overflow_lowers_the_scale_of_a_scaler_and_leaves_phi_alone(on_failure: str) -> None:
    world = World(on_failure=on_failure)
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=1024.0)
    before = world.snapshot()
    world.step(val_loss=steep(world), grad_scaler=scaler)
    scaler.update()
    assert scaler.get_scale() == 512.0
    after = world.snapshot()
    assert after["grad"][-1] is None  # no NaN is left for whoever looks at it
    for snapshot in (before, after):
        del snapshot["grad"], snapshot["report"]
    assert_unchanged(before, after)
    world.step(grad_scaler=scaler)
    scaler.update()
    assert moved(world, before)


def test_a_torch_error_of_the_wrapped_optimizer_leaves_the_gradients_alone() -> None:
    world = World()

    def refuse(*_: Any) -> None:
        raise RuntimeError("no")

    world.aux.register_step_pre_hook(refuse)
    before = world.snapshot()
    with pytest.raises(RuntimeError, match="no"):
        world.step()
    assert_unchanged(before, world.snapshot())


# What looks wrong and is right.


def expected(**changes: Callable[[World], Any]) -> list[Tensor]:
    """Return the hypergradient of an undisturbed step."""
    world = World()
    grads = world.step(return_grads=True, **{name: make(world) for name, make in changes.items()})
    assert grads is not None
    return grads


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_step_where_gradients_are_off_is_a_step(mode: Callable[[], Any]) -> None:
    world = World()
    arguments = world.arguments(return_grads=True)
    with mode():
        grads = world.meta.step(**arguments)
    assert grads is not None
    assert same(grads, expected())
    assert world.step(return_grads=True) is not None  # nor is the optimizer's state spoilt for the next one


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_scores_where_gradients_are_off_are_scores(mode: Callable[[], Any]) -> None:
    found = []
    for context in (mode, torch.enable_grad):
        world = World()
        call = scores(lambda w, train, val, aux: [(train.reshape(1), val, aux)])(world)
        with context():
            found.append(call().score)  # type: ignore[attr-defined]
    assert torch.equal(*found)


def test_losses_of_shape_one_and_integers_for_floats_are_fine() -> None:
    world = World()
    meta = MetaOptimizer(world.aux, hpo_lr=1, max_grad_norm=1)
    world.step(meta, train_loss=world.train().reshape(1), val_loss=world.val().reshape(1, 1))


def test_a_model_in_evaluation_mode_is_differentiated_in_it() -> None:
    world = World()
    world.net.eval()
    assert world.step(return_grads=True) is not None
    assert not world.net.training


def test_losses_of_a_list_may_share_their_graph_with_each_other_and_the_train_loss() -> None:
    world = World()
    losses = world.losses()
    found = hypergradient(
        world.combiner(losses).mean(),
        [losses[:, 0].mean(), losses[:, 1].mean()],
        params=world.net.parameters(),
        aux_params=world.combiner.parameters(),
        solver=Identity(),
    )
    mean = hypergradient(
        world.combiner(losses).mean(),
        losses[:, :2].mean(),
        params=world.net.parameters(),
        aux_params=world.combiner.parameters(),
        solver=Identity(),
    )
    torch.testing.assert_close(found.grads, mean.grads)


def test_a_retained_graph_serves_the_training_step_and_the_outer_one() -> None:
    world = World()
    loss = world.train()
    loss.backward(retain_graph=True)
    grads = world.step(train_loss=loss, return_grads=True)
    assert grads is not None
    assert same(grads, expected())


def test_parameters_frozen_after_the_forward_pass_are_constants() -> None:
    before, after = World(), World()
    before.net[0].requires_grad_(False)
    before.meta = MetaOptimizer(before.aux)
    after.meta = MetaOptimizer(after.aux)
    losses = after.arguments(return_grads=True)
    after.net[0].requires_grad_(False)
    found = after.meta.step(**losses)
    assert found is not None
    torch.testing.assert_close(found, before.step(return_grads=True))


SOLVERS = [
    Identity(),
    Neumann(),
    Neumann(alpha=0.1),
    ConjugateGradient(),
    Nystrom(rank=3),
    Dense(),
    WarmStart(Neumann()),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("shapes", [[()], [(0,)], [(0,), (2,)], [(2, 0), ()]], ids=str)
def test_scalar_and_empty_parameters_are_parameters(solver: Any, shapes: Sequence[tuple[int, ...]]) -> None:
    weights, phi = [stranger(*s) for s in shapes], [stranger(*s) for s in shapes]
    train = sum(((w - p) ** 2).sum() for w, p in zip(weights, phi, strict=True)) / 2
    val = sum((w**2).sum() for w in weights) / 2
    found = hypergradient(train, val, params=weights, aux_params=phi, solver=copy.deepcopy(solver))
    assert [g.shape for g in found.grads] == [p.shape for p in phi]
    if not isinstance(solver, Neumann) or solver.alpha == "auto":
        torch.testing.assert_close(found.grads, tuple(torch.ones_like(p) for p in phi))  # H = I


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e12, 1e25])
def test_extreme_scales_give_finite_numbers_or_a_warning(solver: Any, scale: float) -> None:
    w, phi = (torch.ones(2, device=DEVICE, requires_grad=True) for _ in range(2))
    train, val = ((w - 2 * phi) ** 2).sum() * scale, (w**2).sum() * scale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolverWarning)
        found = hypergradient(train, val, params=[w], aux_params=[phi], solver=copy.deepcopy(solver))
    assert bool(found.grads[0].isfinite().all())
    assert found.usable or found.report.failed or not found.finite


@pytest.mark.parametrize("solver", [s for s in SOLVERS if not isinstance(s, Dense)], ids=lambda s: type(s).__name__)
def test_bfloat16_weights_under_a_float32_loss_keep_the_direction(solver: Any) -> None:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        net, phi = stranger(4, 2, dtype=dtype), stranger(2, dtype=torch.float32)
        outputs = (x.to(dtype) @ net).float()
        train, val = ((outputs - phi) ** 2).mean() + (net.float() ** 2).mean(), ((outputs - 0.5) ** 2).mean()
        half = dtype == torch.bfloat16 and isinstance(solver, ConjugateGradient)
        with pytest.warns(SolverWarning, match="symmetric products") if half else nullcontext():
            result = hypergradient(train, val, params=[net], aux_params=[phi], solver=copy.deepcopy(solver))
        found.append(result.grads[0])
    assert found[1].dtype == torch.float32
    assert float(torch.cosine_similarity(*found, dim=0)) > 0.99


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_channels_last_weights_give_the_same(solver: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 6, 6).to(DEVICE, DTYPE)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 3)).to(DEVICE, DTYPE)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    assert not last[0].weight.is_contiguous()
    found = []
    for net, images in ((plain, x), (last, x.to(memory_format=torch.channels_last))):
        phi = stranger(2)
        outputs = net(images).mean((2, 3))
        train = (phi * outputs**2).mean() + sum((p**2).sum() for p in net.parameters())
        own = copy.deepcopy(solver)
        found.append(hypergradient(train, outputs.mean(), params=net.parameters(), aux_params=[phi], solver=own).grads)
    torch.testing.assert_close(*found)


def test_sparse_embeddings_count_like_dense_ones() -> None:
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table = nn.Embedding(5, 4, sparse=sparse).to(DEVICE, DTYPE)
        head, phi = nn.Linear(4, 2).to(DEVICE, DTYPE), stranger(2)
        outputs = head(table(torch.tensor([1, 2, 1, 4], device=DEVICE)))
        parameters = [*table.parameters(), *head.parameters()]
        losses = (phi * (outputs - 1) ** 2).mean(), outputs.square().mean()
        found.append(hypergradient(*losses, params=parameters, aux_params=[phi], solver=Neumann(terms=5)).grads)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("differences", [False, True])
def test_a_minimum_of_the_outer_loss_has_a_hypergradient_of_zero(differences: bool) -> None:
    w, phi = stranger(2), stranger(2)

    def train() -> Tensor:
        return (w - phi).square().sum()

    operator = FiniteDifference(train, [w]) if differences else Hessian(train(), [w])
    found = hypergradient(operator, (w - 1).square().sum(), params=[w], aux_params=[phi])
    assert found.usable
    assert torch.equal(found.grads[0], torch.zeros_like(phi))


def test_a_weight_used_twice_is_one_parameter() -> None:
    first, second = nn.Linear(3, 3).to(DEVICE, DTYPE), nn.Linear(3, 3).to(DEVICE, DTYPE)
    second.weight = first.weight
    net, phi = nn.Sequential(first, nn.Tanh(), second), stranger(3)
    outputs = net(torch.ones(2, 3, device=DEVICE, dtype=DTYPE))
    losses = (phi * (outputs - 1) ** 2).mean(), outputs.square().mean()
    hypergradient(*losses, params=net.parameters(), aux_params=[phi])
    with pytest.raises(InputError, match="1 of 2 are repeats"):
        hypergradient(*losses, params=[first.weight, second.weight], aux_params=[phi])


def test_a_once_differentiable_function_beside_the_weights_is_fine() -> None:
    world = World()
    gates = Square.apply(stranger(K))  # of neither level
    of_phi = Square.apply(world.combiner.weight)  # needs one derivative only
    world.step(train_loss=(gates * of_phi * world.losses()).mean(), val_loss=Square.apply(world.val()))


@pytest.mark.parametrize(("saved", "loaded"), [(Neumann(), WarmStart(Neumann())), (WarmStart(Neumann()), Neumann())])
def test_a_checkpoint_of_another_solver_can_be_loaded(saved: Any, loaded: Any) -> None:
    world = World(solver=copy.deepcopy(saved))
    world.step()
    meta = MetaOptimizer(world.aux, solver=copy.deepcopy(loaded))
    meta.load_state_dict(world.meta.state_dict())
    world.step(meta)
