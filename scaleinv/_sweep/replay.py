"""A function of tensors, recorded once as a list of operations on memory that stays, and then replayed.

A step of many small networks is some fifty operations on tensors of a few hundred kilobytes.  Called in the usual way
each finds its kernel through several layers of Python and writes its result to fresh memory.  Here a call costs what
the kernels cost: views are made once, memory is handed on from a result that is read no more to the next, and what
acts on each entry by itself overwrites its argument.
"""

import operator

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

aten = torch.ops.aten
CONSTANTS = (aten.zeros_like, aten.ones_like, aten.full_like, aten.new_zeros, aten.new_ones, aten.new_full)
OF_SHAPES = {packet.default for packet in CONSTANTS}  # what takes of a tensor nothing but its shape and type


def traced(function, *inputs):
    """The operations of ``function(*inputs)`` as a graph; nothing is computed.

    Args:
        function: from tensors (in dicts, tuples, …) to tensors, without random numbers and without branches on values.
        inputs: its arguments, of which only shapes and types count.  The graph takes them as one tuple.
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

    Attributes:
        outputs: what the function returned, as tensors in memory that stays.
        nbytes: of the memory between inputs and outputs.
    """

    def __init__(self, graph, inputs, overwritten=(), fixed=()):
        leaves = pytree.tree_leaves(inputs)
        spare, fixed = ({i for i, x in enumerate(leaves) if any(x is y for y in few)} for few in (overwritten, fixed))
        with torch.no_grad():
            self._calls, self.nbytes, outputs = _compile(graph, leaves, spare, fixed)
        self.inputs, self.outputs = inputs, pytree.tree_unflatten(outputs, graph._out_spec)

    @torch.no_grad()
    def __call__(self):
        for operation, args, kwargs in self._calls:
            operation(*args, **kwargs)


def _compile(graph, inputs, spare, fixed):
    """The calls, as (operation, args, kwargs) on tensors in memory that stays; its bytes; the outputs.

    spare, fixed: positions of the inputs that may be overwritten, and of those that stay as they are.
    """
    nodes, memory = list(graph.graph.nodes), _Memory()
    owner, last, constant = _lifetimes(nodes, fixed)
    value, calls, given = {}, [], iter(enumerate(inputs))
    for i, node in enumerate(nodes):
        args, kwargs = map_arg(node.args, value.get), map_arg(node.kwargs, value.get)
        if node.op == "placeholder":
            position, value[node] = next(given)
            if position in spare:
                memory.lend(node, value[node])
        elif node.op == "get_attr":
            value[node] = getattr(graph, node.target)
        elif node.op == "output":
            return calls, memory.nbytes, [args[0]] if isinstance(args[0], torch.Tensor) else list(args[0])
        elif owner[node] is not node or constant[node]:
            value[node] = node.target(*args, **kwargs)  # once
            if owner[node] is node:
                memory.nbytes += sum(x.nbytes for x in pytree.tree_leaves(value[node]) if torch.is_tensor(x))
        else:
            dying = [x for x in dict.fromkeys(owner[a] for a in node.all_input_nodes) if last[x] == i]
            reused = _overwritable(node, [x for x in node.all_input_nodes if owner[x] in dying], value, owner, memory)
            if reused is not None:
                memory.pass_on(owner[reused], node)
                value[node] = value[reused]
            else:
                value[node] = pytree.tree_map_only(torch.Tensor, lambda x: memory.take(node, x), node.meta["val"])
            calls.append(_call(node.target, args, kwargs, value[node]))
            for x in dying:
                memory.free(x)


def _lifetimes(nodes, fixed):
    """Whose memory each node's value lies in; where in the list that memory is last read; what is always the same."""
    owner, last, constant = {}, {}, {}
    for i, node in enumerate(nodes):
        of_inputs = all(constant[x] for x in node.all_input_nodes) or node.target in OF_SHAPES
        constant[node] = i in fixed if node.op == "placeholder" else of_inputs
        views = node.op == "call_function" and (node.target is operator.getitem or _is_view(node.target))
        owner[node] = owner[node.args[0]] if views else node
        for x in node.all_input_nodes:
            last[owner[x]] = i if node.op != "output" else len(nodes)
        last.setdefault(owner[node], i)
    return owner, last, constant


def _is_view(operation):
    returns = operation._schema.returns
    return operation is aten._unsafe_view.default or any(r.alias_info and not r.alias_info.is_write for r in returns)


def _overwritable(node, candidates, value, owner, memory):
    """Of the arguments that nobody reads afterwards, one whose memory the result fits; where each entry of the result
    depends on the same entry of the arguments only."""
    if torch.Tag.pointwise not in node.target.tags:
        return None
    result = node.meta["val"]
    for x in candidates:
        there = value[x]
        same = (there.shape, there.stride(), there.dtype) == (result.shape, result.stride(), result.dtype)
        alone = [owner[y] for y in node.all_input_nodes].count(owner[x]) == 1  # read in no other order meanwhile
        if same and alone and memory.holds_only(owner[x], there):
            return x
    return None


def _call(operation, args, kwargs, out):
    """The operation as a call that leaves its result in ``out``: in place, or by its out= variant, or by a copy."""
    if args and args[0] is out:
        in_place = _variant(getattr(aten, operation._schema.name.split("::")[1] + "_", None), operation, 0)
        if in_place:
            return in_place, args, kwargs
    if operation is aten._to_copy.default:
        return aten.copy_.default, (out, args[0]), {}
    with_out = isinstance(out, torch.Tensor) and _variant(operation.overloadpacket, operation, 1)
    if with_out:
        (name,) = (a.name for a in with_out._schema.arguments if a.is_out)
        return with_out, args, {**kwargs, name: out}

    def copied():
        for here, x in zip(pytree.tree_leaves(out), pytree.tree_leaves(operation(*args, **kwargs))):
            if isinstance(here, torch.Tensor):
                here.copy_(x)

    return copied, (), {}


def _variant(packet, operation, outs):
    """The overload in a packet that takes the operation's arguments, and so many out= arguments besides."""
    wanted = [(a.name, a.type) for a in operation._schema.arguments]
    for name in packet.overloads() if packet else ():
        arguments = getattr(packet, name)._schema.arguments
        given = [(a.name, a.type) for a in arguments if not a.is_out]
        if given == wanted and len(arguments) == len(given) + outs:
            return getattr(packet, name)
    return None


class _Memory:
    """Blocks of bytes: taken by nodes for their results, freed by their last readers, taken again."""

    def __init__(self):
        self.nbytes, self.spare, self.blocks, self.lent = 0, {}, {}, []

    def take(self, node, like):
        size = like.untyped_storage().nbytes()
        spare = self.spare.setdefault((size, like.device), [])
        if not spare:
            spare.append(torch.empty(size, dtype=torch.uint8, device=like.device))
            self.nbytes += size
        block = spare.pop()
        self.blocks.setdefault(node, []).append(block)
        return block.view(like.dtype).as_strided(like.shape, like.stride())

    def lend(self, node, tensor):
        """The memory of an input that may be overwritten."""
        self.blocks[node] = [tensor]
        self.lent.append(tensor)

    def holds_only(self, node, tensor):
        blocks = self.blocks.get(node, ())
        return len(blocks) == 1 and blocks[0].nbytes == tensor.nbytes

    def pass_on(self, old, new):
        self.blocks[new] = self.blocks.pop(old)

    def free(self, node):
        for block in self.blocks.pop(node, ()):
            if not any(block is x for x in self.lent):
                self.spare[block.nbytes, block.device].append(block)
