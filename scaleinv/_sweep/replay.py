"""A function of tensors, recorded once as a list of operations on memory that stays, and then replayed.

A step of many small networks is some fifty operations on tensors of a few hundred kilobytes.  Called in the usual way
each finds its kernel through several layers of Python and writes its result to fresh memory.  Here a call costs what
the kernels cost: views are made once, a result that is not read any more hands its memory on to the next, and what
acts on each entry by itself overwrites its argument.
"""

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from scaleinv._sweep.draws import Draws, is_random

aten = torch.ops.aten
CONSTANTS = (aten.zeros_like, aten.ones_like, aten.full_like, aten.new_zeros, aten.new_ones, aten.new_full)
OF_SHAPES = {packet.default for packet in CONSTANTS}  # use only the shape and type of a tensor

Operation = Any  # an overload of torch.ops, such as torch.ops.aten.add.Tensor


class Call(NamedTuple):
    """An operation and its arguments, tensors in memory that stays."""

    operation: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def traced(function: Callable[..., Any], *inputs: Any) -> GraphModule:
    """The operations of ``function(*inputs)`` as a graph; nothing is computed.

    Args:
        function: from tensors (in dicts, tuples, …) to tensors, without branches on values.
        inputs: its arguments, of which only shapes and types count.  The graph takes them as one tuple.

    >>> from scaleinv._sweep.replay import traced
    >>> import torch
    >>> graph = traced(lambda x: x * 2, torch.ones(3))
    >>> graph((torch.tensor([1.0, 2.0, 3.0]),))
    tensor([2., 4., 6.])
    """
    with torch.no_grad():
        graph = make_fx(lambda x: torch.func.functionalize(function)(*x), tracing_mode="fake")(inputs)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


class Recording:
    """The operations of a graph of ``traced``, on memory that stays: fill ``inputs`` in place, call, read ``outputs``.

    Args:
        graph: of ``traced``.
        inputs: tensors like those it was traced with: the memory that every call reads.
        overwritten: those among them that a call may overwrite.
        fixed: those among them that stay as they are now: what follows from them alone is computed once.
        drawn: for each of its random tensors the axes in the order in which to draw; by default the first to the last.

    Attributes:
        outputs: what the function returned, as tensors in memory that stays.
        nbytes: of the memory between inputs and outputs.
        generator: of the random numbers, which are drawn anew in each call.

    >>> from scaleinv._sweep.replay import Recording, traced
    >>> import torch
    >>> x = torch.tensor([1.0, 2.0])
    >>> recording = Recording(traced(lambda x: x * 2, x), (x,))
    >>> x += 1
    >>> recording()
    >>> recording.outputs
    tensor([4., 6.])
    """

    def __init__(
        self,
        graph: GraphModule,
        inputs: Any,
        overwritten: Iterable[Tensor] = (),
        fixed: Iterable[Tensor] = (),
        drawn: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        leaves = pytree.tree_leaves(inputs)
        device = next((x.device for x in leaves if torch.is_tensor(x)), torch.device("cpu"))
        self.generator = torch.Generator(device)
        spare, constant = _positions(overwritten, leaves), _positions(fixed, leaves)
        compiler = _Compiler(graph, leaves, spare, constant, Draws(graph, self.generator, drawn))
        with torch.no_grad():
            outputs = compiler.compile()
        self._calls, self.nbytes = compiler.calls, compiler.memory.nbytes + compiler.passing
        spec: Any = graph._out_spec
        self.inputs, self.outputs = inputs, pytree.tree_unflatten(outputs, spec)

    @torch.no_grad()
    def __call__(self) -> None:
        for operation, args, kwargs in self._calls:
            operation(*args, **kwargs)


def _positions(some: Iterable[Tensor], leaves: Sequence[Any]) -> set[int]:
    some = list(some)
    return {i for i, x in enumerate(leaves) if any(x is y for y in some)}


class _Compiler:
    """From the nodes of a graph, in their order, to calls on tensors in memory that stays.

    Args:
        graph: of ``traced``.
        inputs: the tensors that it reads.
        spare: positions of the inputs that may be overwritten.
        fixed: positions of the inputs that stay as they are.
        draws: the random numbers.

    Attributes:
        calls: one for each node that is computed anew in each replay.
        memory: of the results.
        passing: the most bytes of results that are in fresh memory, before they are copied to their own.
        values: node → its tensors.
    """

    def __init__(
        self, graph: GraphModule, inputs: Sequence[Any], spare: set[int], fixed: set[int], draws: Draws
    ) -> None:
        self.graph, self.inputs, self.spare, self.draws = graph, iter(enumerate(inputs)), spare, draws
        self.nodes = list(graph.graph.nodes)
        self.owner, self.last_read, self.constant = _lifetimes(self.nodes, fixed)
        self.calls: list[Call] = []
        self.memory, self.passing = _Memory(), 0
        self.values: dict[Node, Any] = {}

    def compile(self) -> list[Any]:
        """Make all calls, and return the graph's outputs."""
        for i, node in enumerate(self.nodes):
            if node.op == "placeholder":
                self._read_input(node)
            elif node.op == "get_attr":
                self.values[node] = getattr(self.graph, str(node.target))
            elif node.op == "output":
                (outputs,), _ = self._arguments(node)
                return [outputs] if isinstance(outputs, Tensor) else list(outputs)
            elif self.owner[node] is not node or self.constant[node]:
                self._compute_once(node)
            else:
                self._compute_each_time(node, i)
        raise AssertionError("a graph ends with its output")

    def _arguments(self, node: Node) -> tuple[Any, Any]:
        return map_arg(node.args, self.values.get), map_arg(node.kwargs, self.values.get)

    def _read_input(self, node: Node) -> None:
        position, self.values[node] = next(self.inputs)
        if position in self.spare:
            self.memory.lend(node, self.values[node])

    def _compute_once(self, node: Node) -> None:
        """A view, whose memory stays, or what follows from fixed inputs alone."""
        operation: Operation = node.target
        args, kwargs = self._arguments(node)
        self.values[node] = operation(*args, **kwargs)
        if self.owner[node] is node:
            self.memory.nbytes += sum(x.nbytes for x in _tensors(self.values[node]))

    def _compute_each_time(self, node: Node, i: int) -> None:
        """Where an argument is that is not read any more, or else in memory of its own."""
        args, kwargs = self._arguments(node)
        dying = [x for x in dict.fromkeys(self.owner[a] for a in node.all_input_nodes) if self.last_read[x] == i]
        reused = self._overwritable(node, [x for x in node.all_input_nodes if self.owner[x] in dying])
        if reused is not None:
            self.memory.pass_on(self.owner[reused], node)
            self.values[node] = self.values[reused]
        else:
            take = self.memory.take
            self.values[node] = pytree.tree_map_only(torch.Tensor, lambda x: take(node, x), node.meta["val"])
        if is_random(node):
            self.calls.append(Call(self.draws.drawing(node), (args, kwargs, self.values[node]), {}))
        else:
            self.calls.append(_call(node.target, args, kwargs, self.values[node]))
        if self.calls[-1].operation is _copy_result:
            self.passing = max(self.passing, sum(x.nbytes for x in _tensors(self.values[node])))
        for x in dying:
            self.memory.free(x)

    def _overwritable(self, node: Node, candidates: Iterable[Node]) -> Node | None:
        """Of the arguments that are not read afterwards, one whose memory the result fits; if each entry of the result
        depends on the same entry of the arguments only."""
        operation: Operation = node.target
        if torch.Tag.pointwise not in operation.tags:
            return None
        result = node.meta["val"]
        owners = [self.owner[x] for x in node.all_input_nodes]
        for x in candidates:
            here = self.values[x]
            same = (here.shape, here.stride(), here.dtype) == (result.shape, result.stride(), result.dtype)
            alone = owners.count(self.owner[x]) == 1  # read in no other order meanwhile
            if same and alone and self.memory.holds_only(self.owner[x], here):
                return x
        return None


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(tree) if torch.is_tensor(x)]


class _Lifetimes(NamedTuple):
    owner: dict[Node, Node]  # the node in whose memory a node's value lies
    last_read: dict[Node, int]  # where in the list the memory of an owner is last read
    constant: dict[Node, bool]  # whether the value is the same in each replay


def _lifetimes(nodes: Sequence[Node], fixed: Collection[int]) -> _Lifetimes:
    owner: dict[Node, Node] = {}
    last_read: dict[Node, int] = {}
    constant: dict[Node, bool] = {}
    for i, node in enumerate(nodes):
        follows = (all(constant[x] for x in node.all_input_nodes) or node.target in OF_SHAPES) and not is_random(node)
        constant[node] = i in fixed if node.op == "placeholder" else follows
        owner[node] = owner[node.all_input_nodes[0]] if _is_view(node) else node
        for x in node.all_input_nodes:
            last_read[owner[x]] = i if node.op != "output" else len(nodes)
        last_read.setdefault(owner[node], i)
    return _Lifetimes(owner, last_read, constant)


def _is_view(node: Node) -> bool:
    operation: Operation = node.target
    if node.op != "call_function":
        return False
    if operation is operator.getitem or operation is aten._unsafe_view.default:
        return True
    return any(r.alias_info and not r.alias_info.is_write for r in operation._schema.returns)


def _call(operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> Call:
    """The operation as a call that leaves its result in ``out``: in place, or by its out= variant, or by a copy."""
    if args and args[0] is out:
        in_place = _variant(getattr(aten, operation._schema.name.split("::")[1] + "_", None), operation, 0)
        if in_place:
            return Call(in_place, args, kwargs)
    if operation is aten._to_copy.default:
        return Call(aten.copy_.default, (out, args[0]), {})
    with_out = isinstance(out, Tensor) and _variant(operation.overloadpacket, operation, 1)
    if with_out:
        (name,) = (a.name for a in with_out._schema.arguments if a.is_out)
        return Call(with_out, args, {**kwargs, name: out})
    return Call(_copy_result, (operation, args, kwargs, out), {})


def _copy_result(operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
    results = pytree.tree_leaves(operation(*args, **kwargs))
    for here, x in zip(pytree.tree_leaves(out), results, strict=True):
        if isinstance(here, Tensor):
            here.copy_(x)


def _variant(packet: Any, operation: Operation, outs: int) -> Operation | None:
    """The overload in a packet that takes the operation's arguments, and this number of out= arguments besides."""
    wanted = [(a.name, a.type) for a in operation._schema.arguments]
    for name in packet.overloads() if packet else ():
        arguments = getattr(packet, name)._schema.arguments
        without_out = [(a.name, a.type) for a in arguments if not a.is_out]
        if without_out == wanted and len(arguments) == len(without_out) + outs:
            return getattr(packet, name)
    return None


class _Memory:
    """Blocks of bytes: taken by nodes for their results, freed after they are last read, taken again."""

    def __init__(self) -> None:
        self.nbytes = 0
        self.spare: dict[tuple[int, torch.device], list[Tensor]] = {}
        self.blocks: dict[Node, list[Tensor]] = {}
        self.lent: list[Tensor] = []

    def take(self, node: Node, like: Tensor) -> Tensor:
        size = like.untyped_storage().nbytes()
        spare = self.spare.setdefault((size, like.device), [])
        if not spare:
            spare.append(torch.empty(size, dtype=torch.uint8, device=like.device))
            self.nbytes += size
        block = spare.pop()
        self.blocks.setdefault(node, []).append(block)
        return block.view(like.dtype).as_strided(like.shape, like.stride())

    def lend(self, node: Node, tensor: Tensor) -> None:
        """The memory of an input that may be overwritten."""
        self.blocks[node] = [tensor]
        self.lent.append(tensor)

    def holds_only(self, node: Node, tensor: Tensor) -> bool:
        blocks = self.blocks.get(node, ())
        return len(blocks) == 1 and blocks[0].nbytes == tensor.nbytes

    def pass_on(self, old: Node, new: Node) -> None:
        self.blocks[new] = self.blocks.pop(old)

    def free(self, node: Node) -> None:
        for block in self.blocks.pop(node, ()):
            if not any(block is x for x in self.lent):
                self.spare[block.nbytes, block.device].append(block)
