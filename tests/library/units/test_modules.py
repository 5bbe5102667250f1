"""Any module that people have can be scaled and rescaled in mid-training; its names, order and hooks stay."""

import copy
import os

import pytest
import torch
import torch.distributed as dist
from torch import nn, optim
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from scaleinv import effective_parameters, rescale, scale_parameters, unscale_parameters
from scaleinv.reparam import parameter_scales
from tests.library.units.shared import network, same

pytestmark = pytest.mark.usefixtures("one_thread")


class Tied(nn.Module):
    """A language model whose head is its embedding, as a GPT's."""

    def __init__(self, sparse=False):
        super().__init__()
        self.embedding = nn.Embedding(9, 6, sparse=sparse)
        self.mixing = nn.Parameter(torch.ones(()))  # of dimension 0
        self.empty = nn.Parameter(torch.ones(0, 3))
        self.head = nn.Linear(6, 9, bias=False)
        if not sparse:
            self.head.weight = self.embedding.weight

    def forward(self, x):
        tokens = (4 * x).abs().long() % 9
        return self.head(self.mixing * self.embedding(tokens).mean(1))


class Lists(nn.Module):
    def __init__(self):
        super().__init__()
        self.several = nn.ParameterList([nn.Parameter(torch.randn(5, 5)) for _ in range(2)])
        self.named = nn.ParameterDict({"shift": nn.Parameter(torch.zeros(5))})

    def forward(self, x):
        for matrix in self.several:
            x = x @ matrix
        return x + self.named["shift"]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(5, 1, batch_first=True)

    def forward(self, x):
        return self.inner(x[None], x[None], x[None])[0][0]


class Recurrent(nn.Module):
    def __init__(self, cls, **options):
        super().__init__()
        self.inner = cls(5, 4, batch_first=True, **options)

    def forward(self, x):
        return self.inner(x[None])[0][0]


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 3, dtype=torch.complex64)

    def forward(self, x):
        return self.inner(x.to(torch.complex64)).abs()


def partly_normed():
    """Weight norm on one tensor of a layer, whose bias is plain."""
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 7)), nn.Tanh(), nn.Linear(7, 3))


MODULES = {
    "LSTM": lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True, proj_size=2),
    "GRU": lambda: Recurrent(nn.GRU, bias=False),
    "RNN": lambda: Recurrent(nn.RNN),
    "tied": Tied,
    "lists": Lists,
    "packed attention": Attention,
    "complex": Complex,
    "weight norm": partly_normed,
    "old weight norm": lambda: nn.utils.weight_norm(nn.Linear(5, 3)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(5, 3)),
    "convolution": lambda: nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 3, 2), nn.GroupNorm(1, 3), nn.PReLU()),
    "compiled": lambda: torch.compile(network(), backend="eager", fullgraph=True),
}
every_module = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)


def data(step):
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(step))


def steps(module, optimizer, numbers, loss=1.0):
    """The module's outputs, one of each step, whose numbers choose the data."""
    outputs = []
    for step in numbers:
        optimizer.zero_grad()
        output = module(data(step))
        outputs.append(output.detach())
        (loss * (output - 1).square().mean()).backward()
        optimizer.step()
    return outputs


def trained(make, *, weight=1.0, at=4, optimizer=optim.AdamW):
    torch.manual_seed(0)
    module = make()
    adam = optimizer(module.parameters(), lr=1e-2)
    outputs = steps(module, adam, range(at))
    if weight != 1:
        rescale(module, adam, weight=weight)
    return [{"output": each} for each in outputs + steps(module, adam, range(at, at + 4))]


@every_module
@pytest.mark.parametrize("weight", [8.0, 2.0**-7])
def test_a_training_of_any_module_continues_bit_for_bit(make, weight):
    plain = trained(make)
    assert not torch.equal(plain[0]["output"], plain[-1]["output"])
    assert same(trained(make, weight=weight), plain)


def test_a_training_with_sparse_gradients_continues_bit_for_bit():
    def make():
        module = Tied(sparse=True)
        module.head.requires_grad_(False)
        return module.requires_grad_(False).embedding.requires_grad_(True) and module

    def sparse_adam(parameters, lr):
        return optim.SparseAdam([p for p in parameters if p.requires_grad], lr=lr)

    assert same(trained(make, weight=8.0, optimizer=sparse_adam), trained(make, optimizer=sparse_adam))


@every_module
def test_names_order_and_objects_stay(make):
    torch.manual_seed(0)
    module = make()
    before, kinds = list(module.named_parameters()), [type(m).__name__ for m in module.modules()]
    weights = dict(effective_parameters(module))
    scale_parameters(module, 8)
    after = list(module.named_parameters())
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all(p is q for (_, p), (_, q) in zip(before, after))
    assert [type(m).__name__ for m in module.modules()] == kinds
    assert same([effective_parameters(module)], [weights])
    assert {*parameter_scales(module).values()} == {8.0}
    unscale_parameters(module)
    assert all(torch.equal(p, weights[name]) for name, p in module.named_parameters())
    assert [type(m) for m in module.modules()] == [type(m) for m in make().modules()] or "Parametrized" in str(kinds)


@every_module
def test_a_state_dict_holds_tensors_only_and_comes_back(make):
    torch.manual_seed(0)
    module, other = make(), make()
    output = module(data(0))
    scale_parameters(module, 8)
    scale_parameters(other, 8)
    saved = module.state_dict()
    assert all(torch.is_tensor(value) for value in saved.values())
    other.load_state_dict(saved)
    assert torch.equal(other.eval()(data(0)), module.eval()(data(0)))
    with pytest.raises(RuntimeError, match="scale_of_"):  # and not as if they were w
        make().load_state_dict(saved)
    assert torch.equal(unscale_parameters(module).train()(data(0)), output) or "spectral" in str(module).lower()


def test_an_optimizer_state_saved_after_rescale_resumes():
    """A module's own parameters stay before those of its submodules, as the optimizer numbers them."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.shift = nn.Parameter(torch.ones(5)), nn.Parameter(torch.zeros(5))
            self.norm = nn.LayerNorm(5)

        def forward(self, x):
            return self.norm(x * self.scale + self.shift)

    def run(weight):
        module = Mixed()
        optimizer = optim.AdamW(module.parameters(), lr=1e-2)
        steps(module, optimizer, range(4))
        rescale(module, optimizer, weight=weight)
        steps(module, optimizer, range(4, 6))
        states = copy.deepcopy((module.state_dict(), optimizer.state_dict()))
        module = scale_parameters(Mixed(), weight)
        optimizer = optim.AdamW(module.parameters())
        module.load_state_dict(states[0])
        optimizer.load_state_dict(states[1])
        return [{"output": each} for each in steps(module, optimizer, range(6, 10))]

    assert same(run(8.0), run(1.0))


def test_weight_norm_above_a_scale_is_refused_and_below_can_be_removed():
    module = scale_parameters(network(), 8)
    before = module(data(0))
    with pytest.raises(ValueError, match="'weight' is stored 8 times as large .*unscale_parameters"):
        parametrizations.weight_norm(module[0])
    assert torch.equal(module(data(0)), before)
    module = scale_parameters(partly_normed(), {"0.bias": 8})
    before = module(data(0))
    nn.utils.parametrize.remove_parametrizations(module[0], "weight")
    assert torch.equal(module(data(0)), before) and parameter_scales(module) == {"0.bias": 8}
    parametrizations.weight_norm(module[0])  # beside a scaled bias
    torch.testing.assert_close(module(data(0)), before)
    assert torch.equal(unscale_parameters(module)[0].bias, module[0]._parameters["bias"])


class Hoarder(nn.Module):
    def __init__(self, keep):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))
        self.__dict__["kept"] = keep(self.weight)

    def forward(self, x):
        return x * self.weight


REFUSED = {
    "a list": (lambda: Hoarder(lambda p: [p]), "also kept in kept"),
    "a dict": (lambda: Hoarder(lambda p: {"p": p}), "also kept in kept"),
    "an attribute": (lambda: Hoarder(lambda p: p), "also kept in kept"),
    "in place": (lambda: nn.Sequential(nn.Embedding(3, 5, max_norm=1.0)), "max_norm=1.0"),
    "lazy": (lambda: nn.LazyLinear(3), "run the module once"),
    "a script": (lambda: torch.jit.script(nn.Linear(5, 3)), "past a scale"),
}


@pytest.mark.parametrize("make, words", REFUSED.values(), ids=REFUSED)
def test_what_a_scale_does_not_reach_is_refused(make, words):
    module = make()
    with pytest.raises(ValueError, match=words):
        scale_parameters(module, 8)
    assert isinstance(module, torch.jit.ScriptModule) or parameter_scales(module) == {}


def test_tied_after_scaling_is_refused():
    module = scale_parameters(network(), {"0.weight": 8})
    module.add_module("again", nn.Linear(5, 7))
    module.again.weight = module[0]._parameters["weight"]
    with pytest.raises(ValueError, match=r"'0.weight' 8 times, 'again.weight' 1 times .* Tie first"):
        scale_parameters(module, {"0.bias": 8})


def test_two_names_of_a_tied_parameter_are_one_parameter():
    module = Tied()
    with pytest.raises(ValueError, match=r"weight\['head.weight'\]=4: the same parameter is named 'embedding.weight'"):
        scale_parameters(module, {"embedding.weight": 8, "head.weight": 4})
    before = module(data(0))
    scale_parameters(module, {"embedding.weight": 8, "head.weight": 8})
    assert torch.equal(module(data(0)), before) and set(parameter_scales(module)) == {"embedding.weight", "head.weight"}


def test_data_parallel_copies_are_refused():
    module = scale_parameters(network(), 8)
    with pytest.raises(NotImplementedError, match="DistributedDataParallel"):
        module[0]._replicate_for_data_parallel()


def test_averaged_copies_are_scaled_along():
    def run(weight):
        module = network()
        optimizer = optim.Adam(module.parameters(), lr=1e-2)
        averaged = AveragedModel(module)
        for step in range(8):
            if step == 4:
                rescale(module, optimizer, weight=weight, copies=[averaged])
            steps(module, optimizer, [step])
            averaged.update_parameters(module)
        return [{"output": averaged(data(0))}]

    assert same(run(8.0), run(1.0))
    module = network()
    with pytest.raises(ValueError, match="copies: Linear has no parameter '0.weight'"):
        rescale(module, optim.Adam(module.parameters()), weight=8, copies=[nn.Linear(2, 2)])
    assert parameter_scales(module) == {}


def test_after_unscaling_a_module_can_be_exported():
    module = network()
    before = module(data(0))
    exported = torch.export.export(unscale_parameters(scale_parameters(module, 8)), (data(0),)).module()
    assert torch.equal(exported(data(0)), before)
    exported = torch.export.export(scale_parameters(module, 8), (data(0),)).module()
    assert torch.equal(exported(data(0)), before)
    assert torch.equal(torch.jit.trace(module, data(0))(data(0)), before)
    assert torch.equal(torch.func.functional_call(module, dict(module.named_parameters()), data(0)), before)


def test_with_a_gradient_scaler_the_training_continues_bit_for_bit():
    def run(weight, loss):
        module = network()
        optimizer = optim.AdamW(module.parameters(), lr=1e-2)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for step in range(8):
            if step == 4:
                rescale(module, optimizer, weight=weight, loss=loss)
            optimizer.zero_grad()
            factor = loss if step >= 4 else 1.0
            scaler.scale(factor * module(data(step)).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
        return [effective_parameters(module)]

    assert same(run(8.0, 4.0), run(1.0, 1.0))


# Two processes: gradients are averaged, and sharded parameters are gathered, through the scale.


def worker(rank, port, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        for number, wrap in enumerate(WRAPPERS):
            for row, weight in enumerate((1.0, 8.0)):
                results[number, row, rank] = trained_together(wrap, rank, weight)
    finally:
        dist.destroy_process_group()


def trained_together(wrap, rank, weight):
    """The parameters of 10 steps of two processes, whose units change after 5."""
    torch.manual_seed(0)
    module = wrap(network())
    optimizer = optim.AdamW(module.parameters(), lr=1e-2)
    for step in range(10):
        if step == 5:
            rescale(module, optimizer, weight=weight)
        steps(module, optimizer, [2 * step + rank])
    return torch.cat([full(p).flatten() for p in effective_parameters(module).values()])


def full(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def ddp(module):
    return nn.parallel.DistributedDataParallel(module)


def fsdp(module):
    from torch.distributed.fsdp import fully_shard

    return fully_shard(module)


WRAPPERS = (ddp, fsdp)


def test_in_two_processes_the_training_continues_bit_for_bit(unused_port):
    count = sum(p.numel() for p in network().parameters())
    results = torch.zeros(len(WRAPPERS), 2, 2, count).share_memory_()
    torch.multiprocessing.spawn(worker, (unused_port, results), nprocs=2)
    for plain, rescaled in results:
        assert torch.equal(plain[0], plain[1]) and plain.any()
        assert torch.equal(rescaled, plain)


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
