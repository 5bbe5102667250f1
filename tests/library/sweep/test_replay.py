"""Recordings do what the function does, in memory that stays; the faster layers what torch's do, up to rounding."""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from scaleinv._sweep.columns import FASTER, Columns
from scaleinv._sweep.draws import Drawn
from scaleinv._sweep.replay import Recording, traced

pytestmark = pytest.mark.usefixtures("one_thread")

N = 4
generator = torch.Generator()


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=generator.manual_seed(seed), dtype=dtype)


def recorded(function, *inputs, **options):
    """The recording of a function; made without a change of the inputs."""
    kept = [x.clone() for x in tree_leaves(inputs)]
    recording = Recording(traced(function, *inputs), inputs, **options)
    assert same(tree_leaves(inputs), kept)
    return recording


def fill(inputs, numbers):
    for x, new in zip(tree_leaves(inputs), tree_leaves(numbers)):
        x.copy_(new)


def same(one, other):
    """Whether trees of tensors are equal in every bit, NaN included."""
    one, other = tree_leaves(one), tree_leaves(other)
    return len(one) == len(other) and all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7.5), b.nan_to_num(7.5))
        for a, b in zip(one, other)
    )


def written_in_place(x):
    y = x.clone()
    y.mul_(2)
    y[0] = 1.5
    return y.relu_()


def largest(x):
    values, places = x.max(dim=1)
    return (values + places)[:, None].expand(N, N)


# From one or two matrices (N, N) to one: views, operations on entries, sums, several results, whole numbers, constants.
OPERATIONS = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - 2 * y,
    "multiply": lambda x, y: x * y,
    "square": lambda x, y: x * x,
    "tanh": lambda x, y: x.tanh(),
    "exp": lambda x, y: (-x.abs()).exp(),
    "where": lambda x, y: torch.where(x > y, x, y * 0.5),
    "lerp": lambda x, y: torch.lerp(x, y, 0.3),
    "fused": lambda x, y: torch.addcmul(x, x, y, value=0.5),
    "transpose": lambda x, y: x.mT,
    "with its transpose": lambda x, y: x + x.mT,
    "reshape": lambda x, y: x.reshape(2, -1).mT.reshape(N, N),
    "row": lambda x, y: x[1:2].expand(N, N),
    "split": lambda x, y: torch.cat(x.split([1, N - 1])[::-1]),
    "unbind": lambda x, y: torch.stack(x.unbind(1)[::-1]),
    "columns of both": lambda x, y: torch.cat([x[:, :2], y[:, 2:]], dim=1),
    "flip": lambda x, y: x.flip(0),
    "softmax": lambda x, y: x.softmax(1),
    "softmax over rows": lambda x, y: x.mT.log_softmax(1),
    "largest": lambda x, y: largest(x),
    "sort": lambda x, y: x.sort(dim=0).values + x.argsort(dim=1),
    "gather": lambda x, y: x.gather(1, y.argmax(1, keepdim=True).expand(N, N)),
    "product": lambda x, y: x @ y,
    "sum": lambda x, y: x.sum(0, keepdim=True).expand(N, N),
    "mean and spread": lambda x, y: (x - x.mean()) / (x.std() + 1),
    "cumulated": lambda x, y: x.cumsum(0),
    "whole numbers": lambda x, y: (x * 3).long().to(x.dtype),
    "constants": lambda x, y: x * torch.arange(N) + torch.tensor([1.0, -2.0, 3.0, 0.5]) - torch.ones(N, 1),
    "in place": lambda x, y: written_in_place(x),
    "in double precision": lambda x, y: (x.double() / 3).float(),
}


@st.composite
def programs(draw):
    """Operations, each with the places of its arguments among the inputs and the results before it, the late ones above
    all; which results are returned; which inputs may be overwritten, and which stay as they are."""
    inputs, length = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    recent = st.one_of(st.integers(0, 2), st.integers(0, inputs + length))
    steps = [
        (draw(st.sampled_from(sorted(OPERATIONS))), *((inputs + i - 1 - draw(recent)) % (inputs + i) for _ in range(2)))
        for i in range(length)
    ]
    returned = draw(st.lists(st.integers(0, inputs + length - 1), min_size=1, max_size=3)) + [inputs + length - 1]
    kinds = draw(st.lists(st.sampled_from(["read", "overwritten", "fixed"]), min_size=inputs, max_size=inputs))
    return steps, returned, kinds


def compiled(steps, returned):
    def function(memory):
        values = list(memory["inputs"])
        for name, i, j in steps:
            values.append(OPERATIONS[name](values[i], values[j]))
        return {"results": tuple(values[i] for i in returned)}

    return function


@settings(deadline=None, derandomize=True, max_examples=60)
@given(programs())
def test_a_recording_is_the_function_on_other_numbers_and_again(program):
    *program, kinds = program
    function = compiled(*program)
    inputs = [noise(N, N, seed=i) for i in range(len(kinds))]
    options = {kind: [x for x, own in zip(inputs, kinds) if own == kind] for kind in ("overwritten", "fixed")}
    recording = recorded(function, {"inputs": inputs}, **options)
    for seed in (10, 20, 10):
        numbers = [noise(N, N, seed=i if kind == "fixed" else seed + i) for i, kind in enumerate(kinds)]
        wanted = function({"inputs": [x.clone() for x in numbers]})
        fill(inputs, numbers)
        for _ in range(1 if "overwritten" in kinds else 2):
            assert recording() is None
            assert same(recording.outputs, wanted)
            assert all(same(x, y) for x, y, kind in zip(inputs, numbers, kinds) if kind != "overwritten")


def bytes_of_results(graph):
    """Of all that is computed, each in memory of its own."""
    values = [node.meta["val"] for node in graph.graph.nodes if node.op == "call_function"]
    storages = [x.untyped_storage() for value in values for x in tree_leaves(value) if torch.is_tensor(x)]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


@settings(deadline=None, derandomize=True, max_examples=40)
@given(programs())
def test_a_recording_takes_no_more_memory_than_its_results_would(program):
    steps, returned, kinds = program
    memory = {"inputs": [noise(N, N, seed=i) for i in range(len(kinds))]}
    graph = traced(compiled(steps, returned), memory)
    recording, spare = Recording(graph, (memory,)), Recording(graph, (memory,), overwritten=memory["inputs"])
    assert spare.nbytes <= recording.nbytes <= bytes_of_results(graph)


def test_memory_is_handed_on():
    def chain(memory):
        x = memory["x"]
        for _ in range(10):
            x = (x @ x).tanh() * 0.5
        return {"x": x}

    memory = {"x": noise(64, 64)}
    assert recorded(chain, memory).nbytes <= 2 * memory["x"].nbytes
    assert recorded(lambda memory: {"x": (memory["x"] * 2).exp()}, memory, overwritten=[memory["x"]]).nbytes == 0


def test_what_follows_from_fixed_inputs_alone_is_computed_once():
    def function(memory):
        return {"x": memory["x"] * (memory["fixed"] * 2).exp(), "fixed": memory["fixed"] + 1}

    memory = {"x": noise(8), "fixed": noise(8, seed=1)}
    recording = recorded(function, memory, fixed=[memory["fixed"]])
    memory["x"].copy_(noise(8, seed=2))
    wanted = function(memory)
    recording()
    assert same(recording.outputs, wanted)
    memory["fixed"].zero_()  # so that it would show
    recording()
    assert same(recording.outputs, wanted)


def test_a_graph_may_be_recorded_more_than_once():
    """As each thread does, in memory of its own."""
    inputs = [{"x": noise(8, seed=i)} for i in range(2)]
    graph = traced(lambda memory: {"x": (memory["x"] * 2).exp()}, inputs[0])
    one, other = (Recording(graph, (memory,), overwritten=[memory["x"]]) for memory in inputs)
    wanted = [(memory["x"] * 2).exp() for memory in inputs]
    other()
    one()
    assert same([one.outputs["x"], other.outputs["x"]], wanted)


def test_what_is_computed_once_takes_memory_too():
    memory = {"x": noise(8)}
    recording = recorded(lambda memory: {"x": memory["x"] + torch.ones(100, 8).cumsum(0)}, memory)
    assert recording.nbytes >= 2 * 100 * memory["x"].nbytes  # the ones' sums, and the result


def test_a_result_in_an_overwritten_input_is_there_at_once():
    memory = {"w": noise(8), "g": noise(8, seed=1)}
    recording = recorded(lambda memory: {"w": memory["w"] - 0.1 * memory["g"]}, memory, overwritten=[memory["w"]])
    numbers = memory["w"].clone()
    for _ in range(3):
        recording()
        numbers = numbers - 0.1 * memory["g"]
        assert torch.equal(recording.outputs["w"], numbers)
        memory["w"].copy_(recording.outputs["w"])


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x + y,
        lambda x, y: (x * 2, (y, x)),
        lambda x, y: [x.sum(), {"a": y.mT}],
        lambda x, y: {"itself": x, "again": x, "turned": y.mT, "other": torch.ones(2)},
    ],
    ids=["a tensor", "a tuple", "a list", "inputs themselves"],
)
def test_inputs_and_outputs_are_trees_of_any_form(function):
    x, y = noise(N, N), noise(N, N, seed=1)
    recording = recorded(function, x, y)
    fill((x, y), (noise(N, N, seed=2), noise(N, N, seed=3)))
    recording()
    assert same(recording.outputs, function(x, y))
    assert type(recording.outputs) is type(function(x, y))


@pytest.mark.parametrize("function", [lambda y: y + y.mT, lambda y: torch.where(y > 0, y.mT, y)], ids=["sum", "where"])
def test_a_matrix_with_its_transpose(function):
    """Whose memory is read in two orders."""
    memory = {"x": noise(N, N)}
    recording = recorded(lambda memory: {"y": function(memory["x"] * 2)}, memory)
    recording()
    assert same(recording.outputs, {"y": function(memory["x"] * 2)})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float64])
def test_inputs_of_any_type_may_be_overwritten(dtype):
    def function(memory):
        x = memory["x"]
        return {"x": x.float().cumsum(0) + x.float().sum(), "y": memory["y"] + 1}

    memory = {"x": torch.tensor([0, 1, 1, 0, 1, 0]).to(dtype), "y": torch.arange(6, dtype=torch.uint8)}
    wanted = function(memory)
    recording = recorded(function, memory, overwritten=tree_leaves(memory))
    recording()
    assert same(recording.outputs, wanted)


def test_training_steps_under_grad_and_vmap_are_recorded():
    def loss(w, x, y):
        return functional.cross_entropy(torch.tanh(x @ w), y)

    def step(memory):
        grads, values = torch.func.vmap(torch.func.grad_and_value(loss), in_dims=(0, None, None))(
            memory["w"], memory["x"], memory["y"]
        )
        return {"w": memory["w"] - memory["lr"][:, None, None] * grads, "loss": values}

    memory = {"w": noise(3, 8, 5), "x": noise(16, 8), "y": torch.arange(16) % 5}
    memory["lr"] = torch.tensor([0.1, 1.0, math.nan])
    recording = recorded(step, memory)
    wanted = step(memory)
    recording()
    torch.testing.assert_close(recording.outputs, wanted, equal_nan=True)
    assert recording.outputs["w"][:2].isfinite().all() and recording.outputs["w"][2].isnan().all()


def test_no_gradient_is_recorded_and_grad_mode_stays():
    memory = {"x": noise(3).requires_grad_()}
    recording = Recording(traced(lambda memory: {"x": memory["x"] * 2}, memory), (memory,))
    recording()
    assert not recording.outputs["x"].requires_grad and torch.is_grad_enabled()


def drawn(memory):
    x = memory["x"]
    return {"x": x + torch.rand(N, N), "y": torch.randn_like(x.mT) * x, "z": functional.dropout(x.mT)}


def test_random_numbers_are_drawn_anew_in_each_call_as_outside():
    memory = {"x": noise(N, N)}
    with torch.random.fork_rng(devices=[]), Drawn() as single:
        drawn(memory)
    assert single.orders == [(0, 1), (1, 0), (1, 0)]
    with torch.random.fork_rng(devices=[]):
        recording = Recording(traced(drawn, memory), (memory,), drawn=single.orders)
        recording.generator.manual_seed(7)
        torch.manual_seed(7)
        for _ in range(3):
            state = torch.get_rng_state()
            recording()
            assert torch.equal(torch.get_rng_state(), state)
            assert same(recording.outputs, drawn(memory))


def test_random_numbers_of_no_generator_or_in_other_numbers_are_refused():
    x = noise(N, N)
    with pytest.raises(ValueError, match="native_dropout.*generator.*functional.dropout"):
        Recording(traced(lambda x: torch.native_dropout(x, 0.5, True)[0], x), (x,))
    with pytest.raises(ValueError, match="2 tensors of random numbers alone"):
        Recording(traced(lambda x: x + torch.rand(N), x), (x,), drawn=[(0,), (0,)])


# Columns.  Tolerances are a few roundings: of tanh, of one, as 2σ(2x) − 1 is a difference of such.


def with_gradients(function, *tensors, **options):
    """The value of a function, and its gradients with respect to the tensors of floats."""
    leaves = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in tensors]
    value = function(*leaves, **options)
    weights = noise(*value.shape, seed=9, dtype=value.dtype)
    return value, *torch.autograd.grad((value * weights).sum(), [x for x in leaves if x.is_floating_point()])


def assert_torchs(function, *tensors, ulps=8, **options):
    """In a context of Columns a function gives what it gives outside, the gradients too."""
    with Columns():
        ours = with_gradients(function, *tensors, **options)
    for a, b in zip(ours, with_gradients(function, *tensors, **options), strict=True):
        eps = torch.finfo(b.dtype).eps
        torch.testing.assert_close(a, b, rtol=ulps * eps, atol=ulps * eps * max(1, b.detach().abs().max().item()))


kinds = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@kinds
@pytest.mark.parametrize("shape, bias", [((5, 7), True), ((5, 7), False), ((1, 1), True), ((64, 33), True)])
def test_linear(dtype, shape, bias):
    x, weight = noise(*shape, dtype=dtype), noise(4, shape[1], seed=1, dtype=dtype)
    assert_torchs(functional.linear, x, weight, *([noise(4, seed=2, dtype=dtype)] if bias else []), ulps=20)


def test_linear_in_other_forms_is_torchs():
    x, weight, bias = noise(5, 7), noise(4, 7, seed=1), noise(4, seed=2)
    assert_torchs(functional.linear, noise(2, 3, 7), weight, bias, ulps=20)
    assert_torchs(functional.linear, noise(7), weight, bias, ulps=20)
    assert_torchs(functional.linear, x, weight[0], ulps=20)  # one feature, without its axis
    assert_torchs(functional.linear, x, weight, noise(1), ulps=20)
    assert_torchs(lambda x, w, b: functional.linear(input=x, weight=w, bias=b), x, weight, bias, ulps=20)
    assert_torchs(lambda x, w, b: functional.linear(x, w, bias=b), x, weight, bias, ulps=20)


@kinds
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("track", [True, False])
def test_batch_norm(dtype, shape, track):
    x, weight, bias = noise(*shape, dtype=dtype), noise(3, seed=1, dtype=dtype), noise(3, seed=2, dtype=dtype)
    kept = [[torch.zeros(3, dtype=dtype), torch.ones(3, dtype=dtype)] if track else [None, None] for _ in range(2)]

    def normed(*tensors):
        return functional.batch_norm(tensors[0], *kept[0], *tensors[1:], training=True, momentum=0.3)

    assert_torchs(normed, x, weight, bias, ulps=50)  # both update the first
    for _ in range(2 if track else 0):
        functional.batch_norm(x, *kept[1], training=True, momentum=0.3)
    if track:
        torch.testing.assert_close(kept[0], kept[1])
    assert_torchs(lambda x: functional.batch_norm(x, *kept[0], training=not track), x)


@pytest.mark.parametrize("p, training", [(0.0, True), (0.3, True), (1.0, True), (0.3, False)])
def test_dropout(p, training):
    def dropped(x):
        torch.manual_seed(3)
        return functional.dropout(x, p, training)

    with torch.random.fork_rng(devices=[]):
        assert_torchs(dropped, noise(8, 8), ulps=0)


LABELS = torch.tensor([0, 2, -100, 1, 2, -100])


@kinds
@pytest.mark.parametrize("labels", [LABELS.abs() % 3, LABELS], ids=["all", "some ignored"])
def test_cross_entropy(dtype, labels):
    logits = 5 * noise(6, 3, dtype=dtype)
    assert_torchs(functional.cross_entropy, logits, labels)
    assert_torchs(nn.CrossEntropyLoss(), logits, labels)
    assert_torchs(lambda x, y: functional.cross_entropy(input=x, target=y), logits, labels)


def test_cross_entropy_without_labels_is_nan():
    with Columns():
        assert functional.cross_entropy(noise(2, 3), torch.tensor([-100, -100])).isnan()


@pytest.mark.parametrize("logits", [[0, -math.inf, 1], [3e38, -3e38, 0], [0, math.nan, 1.0], [math.inf, 0, 1]], ids=str)
@pytest.mark.parametrize("label", [0, 1, 2, -100])
def test_cross_entropy_of_infinite_logits(logits, label):
    logits, label = torch.tensor([logits, [0, 0, 0]], dtype=torch.float32), torch.tensor([label, 0])
    with Columns():
        ours = functional.cross_entropy(logits, label)
    assert same(ours, functional.cross_entropy(logits, label))


def test_cross_entropy_in_other_forms_is_torchs():
    logits, labels = noise(6, 3), LABELS
    assert_torchs(functional.cross_entropy, logits, labels, reduction="sum")
    assert_torchs(functional.cross_entropy, logits, labels, reduction="none")
    assert_torchs(functional.cross_entropy, logits, labels, label_smoothing=0.1)
    assert_torchs(functional.cross_entropy, logits, labels.clamp(0), ignore_index=2)
    assert_torchs(lambda x, y: functional.cross_entropy(x, y, torch.tensor([1.0, 2.0, 3.0])), logits, labels)
    assert_torchs(functional.cross_entropy, logits, noise(6, 3, seed=1).softmax(1))  # probabilities of classes
    assert_torchs(functional.cross_entropy, noise(2, 3, 5), torch.arange(10).reshape(2, 5) % 3)
    assert_torchs(functional.cross_entropy, noise(3), torch.tensor(1))


@kinds
def test_tanh(dtype):
    x = torch.tensor([*torch.linspace(-20, 20, 401).tolist(), 0.0, 1e-8, 1e30, math.inf, -math.inf], dtype=dtype)
    for function in (torch.tanh, nn.Tanh(), lambda x: torch.tanh(input=x)):
        assert_torchs(function, x)


@kinds
def test_sqrt(dtype):
    """Its gradient takes x to the power of −3/2, which is a number for x from 1e-24 to 1e24, in float32."""
    x, eps = torch.logspace(-24, 24, 49, dtype=dtype), torch.finfo(dtype).eps
    with Columns():
        value, gradient = with_gradients(torch.Tensor.sqrt, x)
        ends = torch.tensor([0.0, math.inf, -1.0], dtype=dtype).sqrt()
    wanted, slope = with_gradients(torch.Tensor.sqrt, x)
    torch.testing.assert_close(value, wanted, rtol=3 * eps, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=8 * eps, atol=0)
    assert ends[:2].tolist() == [0.0, math.inf] and ends[2].isnan()


def test_nothing_else_changes_and_outside_nothing_at_all():
    x, weight = noise(5, 7), noise(4, 7, seed=1)
    before = [f(x) for f in (torch.tanh, torch.sigmoid, torch.exp)], functional.linear(x, weight)
    with Columns():
        assert same([torch.sigmoid(x), torch.exp(x), x.relu()], [*before[0][1:], x.relu()])
        with pytest.raises(RuntimeError):
            functional.linear(x, weight[:, :3])
    assert same([torch.tanh(x), torch.sigmoid(x), torch.exp(x)], before[0])
    assert same(functional.linear(x, weight), before[1])


def test_each_faster_function_is_tested_here():
    tested = [name.removeprefix("test_") for name, value in globals().items() if inspect.isfunction(value)]
    assert {function.__name__ for function in FASTER} <= set(tested)


def test_the_layers_hand_on_columns():
    """For which the products of all members are one on dense matrices."""
    with Columns():
        y = functional.linear(noise(5, 7), noise(4, 7, seed=1), noise(4, seed=2))
    assert y.shape == (5, 4) and y.mT.is_contiguous()
