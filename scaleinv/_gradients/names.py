"""Names of one model under different wrappers, matched."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_Value = TypeVar("_Value")


def matched(a: Mapping[str, _Value], b: Mapping[str, _Value]) -> tuple[dict[str, _Value], dict[str, _Value]]:
    """Both under the names of ``a``, where wrappers have added parts to the names of either.

    These parts are those of DDP, FSDP, ``torch.compile`` and the like and, where the two have no name in common, a
    beginning that all names of one have, as Lightning's "model.".

    >>> from scaleinv._gradients.names import matched
    >>> matched({"0.weight": 1}, {"module._orig_mod.0.weight": 2})
    ({'0.weight': 1}, {'0.weight': 2})
    >>> matched({"0.weight": 1, "1.weight": 2}, {"model.0.weight": 3, "model.1.weight": 4})[1]
    {'0.weight': 3, '1.weight': 4}
    """
    plain = [{_without_wrappers(name): name for name in names} for names in (a, b)]
    if not plain[0].keys() & plain[1].keys():
        beginnings = [_beginning(names) for names in plain]
        plain = [
            {key.removeprefix(beginning): name for key, name in names.items()}
            for names, beginning in zip(plain, beginnings, strict=True)
        ]
    if len(plain[0]) < len(a) or len(plain[1]) < len(b):  # without these parts, two names are one
        return dict(a), dict(b)
    return dict(a), {plain[0].get(key, name): b[name] for key, name in plain[1].items()}


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _beginning(names: Iterable[str]) -> str:
    """The parts with which all names begin, and a dot; never the whole of a name."""
    split = [name.split(".")[:-1] for name in names]
    common = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "".join(f"{part}." for part in common)
