"""A second device on a machine that has none: its tensors hold numbers, and do not mix with those of the CPU.

It behaves as a GPU does where a program can see it: an operation on tensors of both devices raises, a generator of the
other device too, the random state is its own, and whoever wants to know a number has to wait for it, which is counted.
"""

from contextlib import contextmanager
from functools import partial

import torch
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "elsewhere"
aten = torch.ops.aten
READS = (aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default, aten.masked_select.default)
MAKERS = (
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten.arange.default,
    aten.arange.start,
    aten.arange.start_step,
    aten.eye.default,
    aten.eye.m,
    aten.linspace.default,
    aten.randperm.default,
)
# Take tensors without dimensions from the CPU too.
WITH_SCALARS = "add sub rsub mul div pow where eq ne lt le gt ge maximum minimum index_put fill masked_fill".split()
MOVES = (aten._to_copy.default, aten.copy_.default)

LIBRARY = torch.library.Library("aten", "IMPL")
generators = {}  # address → a generator of the device
without_float64 = False
waits = []  # the operations for whose numbers the program has waited


class Backend(_DummyBackendModule):
    """What ``torch.get_device_module("elsewhere")`` is."""

    state = torch.Generator().manual_seed(0).get_state()

    def is_available(self):
        return True

    def device_count(self):
        return 1

    def current_device(self):
        return 0

    def get_rng_state(self, device=0):
        return self.state.clone()

    def set_rng_state(self, state, device=0):
        Backend.state = state.clone()

    def manual_seed_all(self, seed):
        Backend.state = torch.Generator().manual_seed(seed).get_state()

    manual_seed = manual_seed_all


class Generator(torch.Generator):
    """What ``torch.Generator`` is from then on."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu" if torch.device(device).type == NAME else device)
        if torch.device(device).type == NAME:
            generators[made._cdata] = made
        return made


class There(torch.Tensor):
    """A tensor of the device; ``here`` has its numbers."""

    __slots__ = ["here"]

    @staticmethod
    def __new__(cls, here):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=torch.device(NAME, 0),
        )
        made.here = here
        return made

    def __repr__(self):
        return f"There({self.here!r})"

    def data_ptr(self):
        return self.here.data_ptr()

    def untyped_storage(self):
        return self.here.untyped_storage()

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            copied = self.detach().clone()
            if isinstance(self, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, self.requires_grad)
            memo[id(self)] = copied
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


def compute(operation, args, kwargs):
    """The operation, with the numbers of the tensors that are there."""
    tensors = [x for x in pytree.tree_leaves((args, kwargs)) if torch.is_tensor(x)]
    there = [x for x in tensors if isinstance(x, There)]
    wanted = kwargs.get("device")
    is_there = bool(there) if wanted is None else torch.device(wanted).type == NAME
    if not there and not is_there:
        return operation(*args, **kwargs)
    check(operation, tensors, kwargs.get("generator"))
    if operation in READS or (crosses(operation, args, is_there) and not sent(operation, args, kwargs)):
        waits.append(str(operation))
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    here = pytree.tree_map_only(There, lambda x: x.here, (args, kwargs))
    if torch.Tag.nondeterministic_seeded in operation.tags:
        with own_random_state():
            result = operation(*here[0], **here[1])
    else:
        result = operation(*here[0], **here[1])
    made = [x for x in pytree.tree_leaves(result) if torch.is_tensor(x)]
    if without_float64 and is_there and any(x.dtype == torch.float64 for x in made):
        raise TypeError(f"{operation}: {NAME} has no float64")
    known = {id(x.here if isinstance(x, There) else x): x for x in tensors}  # what an operation in place returns
    return pytree.tree_map_only(
        torch.Tensor, lambda x: known[id(x)] if id(x) in known else There(x) if is_there else x, result
    )


def crosses(operation, args, is_there):
    """Whether it copies from one device to the other; a plain copy of a GPU's waits until it is there."""
    if operation is aten._to_copy.default:
        return isinstance(args[0], There) != is_there
    return operation is aten.copy_.default and isinstance(args[0], There) != isinstance(args[1], There)


def sent(operation, args, kwargs):
    """Whether it goes to the device without a wait."""
    non_blocking = kwargs.get("non_blocking", args[2] if operation is aten.copy_.default and len(args) > 2 else False)
    return bool(non_blocking) and not isinstance(args[1 if operation is aten.copy_.default else 0], There)


def check(operation, tensors, generator):
    """Raise where a GPU would."""
    if generator is not None and generator._cdata not in generators:
        raise RuntimeError(f"{operation}: expected a generator of {NAME!r} but found one of {generator.device}")
    there = any(isinstance(x, There) for x in tensors)
    scalars = str(operation.overloadpacket).removeprefix("aten.").removesuffix("_") in WITH_SCALARS
    mixed = [tuple(x.shape) for x in tensors if not isinstance(x, There) and (x.ndim or not scalars)]
    if there and mixed and operation not in MOVES:
        raise RuntimeError(f"{operation}: tensors of {NAME} and, of the CPU, those of shapes {mixed}")


@contextmanager
def own_random_state():
    before = torch.get_rng_state()
    torch.set_rng_state(Backend.state)
    try:
        yield
    finally:
        Backend.state = torch.get_rng_state()
        torch.set_rng_state(before)


def register():
    """Make the device known to torch, for the rest of the process."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    for operation in MAKERS:
        name = str(operation).removeprefix("aten.").removesuffix(".default")
        LIBRARY.impl(name, partial(make, operation), "PrivateUse1")
    LIBRARY.impl("_copy_from", copy_from, "PrivateUse1")
    torch.Generator = Generator


def make(operation, *args, **kwargs):
    """A new tensor; on the device, for torch asks here only for those."""
    return compute(operation, args, {**kwargs, "device": NAME})


def copy_from(source, target, non_blocking=False):
    """What ``torch.tensor`` calls to bring its numbers to the device."""
    target.here.copy_(source)
    return target
