"""Random numbers of a recording: those that a single run draws after ``torch.manual_seed``, the same for all members.

They come from a generator of the recording's own.  A tensor is filled with them in the order in which it lies in
memory.  That order may be another one beside other members, so it is noted in a single run.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

RANDOM = torch.Tag.nondeterministic_seeded


def is_random(node: Node) -> bool:
    """Whether a node of a graph draws random numbers."""
    operation: Any = node.target
    return hasattr(operation, "tags") and _draws(operation, node.args, node.kwargs)


def _draws(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation with random numbers takes any: attention without dropout does not."""
    if RANDOM not in operation.tags:
        return False
    defaults = {a.name: a.default_value for a in operation._schema.arguments}
    return {**defaults, **dict(zip(defaults, args, strict=False)), **kwargs}.get("dropout_p") != 0


class Drawn(TorchDispatchMode):
    """Notes for each tensor of random numbers that is drawn inside its axes in the order in which they lie in memory.

    >>> from scaleinv._sweep.draws import Drawn
    >>> import torch
    >>> with torch.random.fork_rng(), Drawn() as drawn:
    ...     _ = torch.rand(3, 4), torch.rand_like(torch.ones(3, 4).T)
    >>> drawn.orders
    [(0, 1), (1, 0)]
    """

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        if _draws(operation, args, kwargs or {}):
            x = pytree.tree_leaves(result)[0]
            self.orders.append(tuple(sorted(range(x.ndim), key=lambda i: -x.stride(i))))
        return result


class Draws:
    """The random numbers of a graph.

    Args:
        graph: whose nodes draw them.
        generator: of them.
        orders: for each of these nodes in turn the axes of its result in the order in which to draw; the first to
            the last by default.

    Raises:
        ValueError: if one draws from no generator of its own, or there are not as many as orders.
    """

    def __init__(
        self, graph: GraphModule, generator: torch.Generator, orders: Sequence[tuple[int, ...]] | None
    ) -> None:
        self.generator = generator
        nodes: list[Node] = [node for node in graph.graph.nodes if is_random(node)]
        results = [pytree.tree_leaves(node.meta["val"])[0] for node in nodes]
        if orders is None:
            orders = [tuple(range(x.ndim)) for x in results]
        if [len(order) for order in orders] != [x.ndim for x in results]:
            raise ValueError(
                f"the model draws {len(orders)} tensors of random numbers alone, others with members beside it; "
                "draw with torch.nn.functional.dropout, torch.rand or torch.randn"
            )
        self.orders = dict(zip(nodes, orders, strict=True))

    def drawing(self, node: Node) -> Callable[..., None]:
        """A function of the node's arguments, as a tuple and a dict, and of a tensor for its result."""
        operation, order, generator = _with_generator(node.target), self.orders[node], self.generator
        back = [order.index(i) for i in range(len(order))]
        always_contiguous = operation.overloadpacket is torch.ops.aten.bernoulli

        def laid_out(x: Tensor) -> Tensor:
            if x.ndim != len(order):
                return x
            x = x.permute(order).contiguous()
            return x if always_contiguous else x.permute(back)

        def draw(args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor) -> None:
            result = operation(*pytree.tree_map_only(torch.Tensor, laid_out, args), **kwargs, generator=generator)
            out.copy_(result.permute(back) if always_contiguous else result)

        return draw


def _with_generator(operation: Any) -> Any:
    """The operation if it takes a generator, or else the one in its packet that takes one besides."""
    packet, wanted = operation.overloadpacket, _arguments_but_generator(operation)
    for other in [operation, *(getattr(packet, name) for name in packet.overloads())]:
        takes_one = any(a.name == "generator" for a in other._schema.arguments)
        if takes_one and _arguments_but_generator(other) == wanted and len(other._schema.returns) == 1:
            return other
    raise ValueError(
        f"the model draws random numbers with {operation}, which takes no generator; "
        "draw with torch.nn.functional.dropout, torch.rand or torch.randn"
    )


def _arguments_but_generator(operation: Any) -> list[tuple[str, Any]]:
    return [(a.name, a.type) for a in operation._schema.arguments if a.name != "generator"]
