"""Which parameter is which: an optimizer's state_dict has numbers in place of names, unless it was made from
``named_parameters()``.

Numbers go up in the order in which the optimizer got the parameters, group by group.  So they are matched to names by
order, and by the shapes that the state shows, as far as these leave no doubt.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from scaleinv._audit.places import Place

Shape: TypeAlias = tuple[int, ...]


class Saved(NamedTuple):
    """A parameter of a saved model: all names that it has in the file, and its place."""

    keys: tuple[str, ...]
    place: Place

    @property
    def shape(self) -> Shape:
        return tuple(self.place.parameter.shape)

    def fits(self, member: "Member") -> bool:
        return member.shape is None or member.shape == self.shape


@dataclass(frozen=True, eq=False)  # two optimizers have the same numbers
class Member:
    """A parameter in a group of an optimizer: its number, and its shape as far as the state shows it."""

    number: int | str
    shape: Shape | None


_PART_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # a part of a name that is a number: 10 of layers.10.weight
_ADVICE = (
    "An optimizer made from model.named_parameters() saves the names; for others, name the code of the model "
    "(--model package:function, which returns the model, or the model and its optimizer)"
)

Group: TypeAlias = Sequence[Member]
Matches: TypeAlias = dict[int | str, Saved]  # number → parameter


def match_by_name(saved: Sequence[Saved], groups: Sequence[Mapping[str, Any]]) -> Matches | None:
    """The parameters of an optimizer's groups by the names in them; None where there are none.

    Raises:
        ValueError: if the model has no parameter of such a name.
    """
    by_name = {name: each for each in saved for name in (*each.place.names, *each.keys)}
    matches: Matches = {}
    for group in groups:
        names = group.get("param_names", group["params"])  # torch.distributed.checkpoint writes names as numbers
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            return None
        for number, name in zip(group["params"], names, strict=True):
            if name not in by_name:
                raise ValueError(f"optimizer: parameter {name!r} is not in the model; do both files belong together?")
            matches[number] = by_name[name]
    return matches


def match_by_order(saved: Sequence[Saved], groups: Sequence[Group], *, ordered: bool) -> dict[Member, Saved]:
    """The parameters of groups by their order and shapes.

    Args:
        saved: of the model.
        groups: of its optimizers.
        ordered: whether ``saved`` is in the order of the model.

    Raises:
        ValueError: if they do not fit, or in several ways.
    """
    try:
        matches = _in_order(saved, groups) if ordered else _by_shape(saved, groups)
        if len(groups) > 1:
            _check_against_sorted(saved, groups, matches)
    except _UnclearError as unclear:
        by = (
            "order and shape"
            if ordered
            else "shape (the names are sorted, as in safetensors files, so the order is lost)"
        )
        count = f"optimizer: by {by}, its {sum(map(len, groups))} parameters"
        tensors = f"the {len(saved)} tensors of the model"
        if not str(unclear):
            raise ValueError(f"{count} do not fit {tensors}; do they belong together? {_ADVICE}") from None
        raise ValueError(f"{count} fit {tensors} in several ways: {unclear}. {_ADVICE}") from None
    return matches


class _UnclearError(Exception):
    """Shapes do not fit; or, with a text that says which parameters could be exchanged, fit in several ways."""


def _unclear(one: Saved, other: Saved) -> _UnclearError:
    return _UnclearError(f"{one.place.name!r} and {other.place.name!r} could be exchanged")


def _in_order(saved: Sequence[Saved], groups: Sequence[Group]) -> dict[Member, Saved]:
    """The only way to find the parameters of each group, in this order, among those that no other group has."""
    matches: dict[Member, Saved] = {}
    waiting = list(groups)
    while waiting:
        taken = set(map(id, matches.values()))
        rest = [each for each in saved if id(each) not in taken]
        doubt = None
        for group in waiting:
            first, last = _earliest(rest, group), _earliest(rest[::-1], group[::-1])[::-1]
            doubt = next((pair for pair in zip(first, last, strict=True) if pair[0] is not pair[1]), None)
            if doubt is None:
                matches |= {member: each for member, each in zip(group, first, strict=True)}
                waiting.remove(group)
                break
        if doubt:
            raise _unclear(*doubt)
    return matches


def _earliest(saved: Sequence[Saved], group: Group) -> list[Saved]:
    """The first parameters, in order, that have the shapes of a group."""
    rest, matches = iter(saved), []
    for member in group:
        match = next((each for each in rest if each.fits(member)), None)
        if match is None:
            raise _UnclearError
        matches.append(match)
    return matches


def _by_shape(saved: Sequence[Saved], groups: Sequence[Group]) -> dict[Member, Saved]:
    """The only way to give each member a parameter of its shape, where the order of the model is not known.

    Parameters whose names differ in numbers alone are in the order of the numbers, as in a Sequential.
    """
    matches: dict[Member, Saved] = {}
    members = [member for group in groups for member in group]
    if len(members) > len(saved):
        raise _UnclearError
    for shape in dict.fromkeys(member.shape for member in members):
        alike = [member for member in members if member.shape == shape]
        fitting = [each for each in saved if each.fits(alike[0])]
        if len(alike) > len(fitting):
            raise _UnclearError
        in_one_group = any(set(alike) <= set(group) for group in groups)
        differ_in_numbers = len({_PART_NUMBER.sub("", _name(each)) for each in fitting}) == 1
        if len(fitting) > 1 and not (len(alike) == len(fitting) and in_one_group and differ_in_numbers):
            raise _unclear(*fitting[:2])
        fitting.sort(key=lambda each: [int(number) for number in _PART_NUMBER.findall(_name(each))])
        matches |= {member: each for member, each in zip(alike, fitting, strict=True)}
    return matches


def _check_against_sorted(saved: Sequence[Saved], groups: Sequence[Group], matches: dict[Member, Saved]) -> None:
    """Code that makes groups may sort the names in each, so that layer 10 comes before layer 2."""
    by_name = sorted(saved, key=_name)
    try:
        others = _in_order(by_name, groups)
    except _UnclearError as unclear:
        if str(unclear):
            raise
        return
    for member, other in others.items():
        if other is not matches[member]:
            raise _unclear(matches[member], other)


def _name(saved: Saved) -> str:
    return saved.keys[0]
