"""What all tensors of two gradients have in common, in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scaleinv import changes
from scaleinv._audit import brief_names
from scaleinv._gradients.factors import factor_text, nearest_simple
from scaleinv._gradients.row import ComparedGradient, Together, together
from scaleinv._report import percent
from scaleinv.changes import Change

_NAMED = 3  # names, or ranges of names, written out
_FEWEST = 4  # coordinates from which a direction shows something: two numbers are in proportion always
_SLACK = 100  # times the rounding of a tensor by which its factor may differ from that of others
_ROUNDING = 4  # gaps between numbers, of the whole gradient, which rounding may put into one tensor
_LOSS_SCALE = 1024  # powers of two from here on are likelier a loss scale than a number of examples
_BFLOAT16 = 0.09  # half of the digits of bfloat16
_SMALL = 0.02  # a rest that rounding may make in a deep model
_EXPLAINS = 1 / 3  # share of the difference that a's own differences have to have to explain it

Rows = Sequence[ComparedGradient]


@dataclass(frozen=True)
class Verdict:
    """What two gradients have in common.

    Attributes:
        kind: "equal"; "factor", one everywhere; "sign", one that is negative; "factors", others for some tensors;
            "unequal", where no factor fits; "random", where ``a`` differs from itself as much; "unclear", where what
            is left may be rounding, in a format that is not known; "missing", where some tensors have a gradient in
            one of them only; "not_finite"; "terms", where loss terms have different factors.
        text: the same in a sentence.
        factor: by which b is larger than a, if it is one; else NaN.
        change: the change of units that it amounts to, for ``convert`` and ``rescale``; None if it is none.
        notes: what else there is to know.

    >>> import torch
    >>> from scaleinv import compare_gradients
    >>> a = {"w": torch.tensor([1.0, 2.0, 2.0, 4.0])}
    >>> compare_gradients(a, {"w": 9 * a["w"]}).verdict.change.loss
    9.0
    """

    kind: str
    text: str
    factor: float = math.nan
    change: Change | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Precision:
    """How exactly two gradients can be compared.

    Attributes:
        tolerance: share of a gradient by which it may differ from a multiple and still be one.
        gap: between numbers near 1, in the coarsest format of the computation.
        known: whether that format is known, not only that in which gradients are stored.
        noise: by how much a differs from itself, relative to it; NaN where it was not run again.
        drawn: whether steps have drawn random numbers; None where none have run.
        batch_norm: whether a layer normalises by the statistics of its batch.
    """

    tolerance: float
    gap: float
    known: bool = True
    noise: float = math.nan
    drawn: bool | None = None
    batch_norm: bool = False


def judge(rows: Rows, precision: Precision) -> tuple[list[ComparedGradient], Verdict]:
    """The rows, with the status of each, and the verdict.

    >>> import torch
    >>> from scaleinv._gradients.row import compare_tensors
    >>> from scaleinv._gradients.verdict import Precision, judge
    >>> row = compare_tensors("w", torch.ones(8), torch.ones(8) / 4)
    >>> judge([row], Precision(1e-4, 1e-7))[1].text
    'b is 1/4 × a in every tensor'
    """
    rows = _with_status(rows, precision)
    bad = [row for row in rows if row.status == "not_finite"]
    if bad:
        where = ", ".join(f"{each} in {_names(of)}" for each, of in _not_finite(bad).items())
        return rows, Verdict("not_finite", f"gradients hold NaN or infinity: {where}; nothing else can be said")
    verdict = _of_compared(rows, precision)
    if all(row.status in ("only_a", "zero") for row in rows) or all(row.status in ("only_b", "zero") for row in rows):
        return rows, verdict
    return rows, replace(verdict, notes=(*verdict.notes, *_notes(rows, verdict.kind)))


# The status of each tensor.


def _with_status(rows: Rows, precision: Precision) -> list[ComparedGradient]:
    both = [row for row in rows if row.status == "unequal"]
    overall, size = together(both).factor, math.sqrt(sum(row.norm_b**2 for row in both))
    fitting = [row for row in both if row.size >= _FEWEST and row.rest <= precision.tolerance]
    candidates = [cluster[0].factor for cluster in _clusters(fitting, precision)] or [overall]

    def status(row: ComparedGradient) -> str:
        if row.status != "unequal":
            return row.status
        if row.rest <= precision.tolerance and row.size >= _FEWEST:
            return "factor"
        if any(row.distance(factor) <= precision.tolerance * row.norm_b for factor in candidates):
            return "factor"
        hidden = row.distance(overall) <= _ROUNDING * precision.gap * size
        return "too_small" if hidden else "unequal"

    return [replace(row, status=status(row)) for row in rows]


def _clusters(rows: Rows, precision: Precision) -> list[list[ComparedGradient]]:
    """Rows of one factor, as far as can be told, the most frequent first; in each, the most exact row first."""
    clusters: list[list[ComparedGradient]] = []
    for row in sorted(rows, key=lambda row: row.factor):
        if clusters and _have_one_factor(clusters[-1][0], row, precision):
            clusters[-1].append(row)
        else:
            clusters.append([row])
    return sorted([sorted(each, key=lambda row: row.rest) for each in clusters], key=len, reverse=True)


def _have_one_factor(one: ComparedGradient, other: ComparedGradient, precision: Precision) -> bool:
    error = min(precision.tolerance, _SLACK * max(one.rest, other.rest, precision.gap))
    return abs(one.factor - other.factor) <= 2 * error * max(abs(one.factor), abs(other.factor))


# The verdict on those that have a gradient in both.


def _of_compared(rows: Rows, precision: Precision) -> Verdict:
    both = [row for row in rows if row.status in ("factor", "unequal", "too_small")]
    if not both:
        return Verdict("missing", _none_in_common(rows))
    fitting = [row for row in both if row.status == "factor"]
    unequal = [row for row in both if row.status == "unequal"]
    overall = together(both)
    clusters = _clusters(fitting, precision)
    if unequal or not clusters:
        return _no_factor(both, unequal or both, overall, precision)
    if len(clusters) > 1:
        return _several_factors(clusters, precision)
    missing = [row for row in rows if row.status in ("only_a", "only_b")]
    verdict = _one_factor(both, overall.factor, precision)
    if missing:
        text = f"{verdict.text}, where both have a gradient, but {len(missing)} of {len(rows)} have it in one only"
        return replace(verdict, kind="missing", text=text, change=None)
    return verdict


def _one_factor(both: Rows, factor: float, precision: Precision) -> Verdict:
    fitting = [row for row in both if row.status == "factor"]
    size = math.sqrt(sum(row.norm_b**2 for row in both))
    rest = math.sqrt(sum((row.rest * row.norm_b) ** 2 for row in fitting)) / size
    error = 4 * rest / math.sqrt(min(sum(row.size for row in fitting), 10_000)) + precision.gap / 64
    if abs(factor - 1) <= max(rest, _ROUNDING * precision.gap):
        same = all(row.factor == 1 and row.rest == 0 for row in both)
        within = "bit for bit" if same else _within(max(rest, abs(factor - 1)))
        return Verdict("equal", f"the gradients agree, {within}", 1.0, changes.loss_times(1.0))
    exact = math.copysign(nearest_simple(abs(factor), error, precision.gap), factor)
    text = f"b is {factor_text(exact)} × a in every tensor{f', {_within(rest)}' if rest else ''}"
    if factor < 0:
        note = "The signs differ: one of the two ascends (a missing minus, maximize)."
        return Verdict("sign", text, exact, notes=(note,))
    return Verdict("factor", text, exact, changes.loss_times(exact), notes=(_what_has_such_a(exact),))


def _what_has_such_a(factor: float) -> str:
    larger, other = ("b", "a") if factor > 1 else ("a", "b")
    times = max(factor, 1 / factor)
    times = float(round(times)) if math.isclose(times, round(times), rel_tol=1e-12) else times
    if times >= _LOSS_SCALE and math.log2(times).is_integer():
        power = f"2^{int(math.log2(times))}"
        return f"{power} is a loss scale's: in {larger} gradients are not unscaled yet (scaler.unscale_)."
    remedy = f"b's loss × {factor_text(1 / factor)} has a's gradients."
    if times.is_integer():
        of_what = "the number of examples, tokens, accumulated pieces or processes"
        return f"{other} divides by {times:.0f} once more than {larger}: {of_what}, or a weight. {remedy}"
    return f"The loss is divided by another number, of tokens or examples, or has a weight. {remedy}"


def _several_factors(clusters: list[list[ComparedGradient]], precision: Precision) -> Verdict:
    parts = []
    for rows in clusters[:_NAMED]:
        factor, error = rows[0].factor, rows[0].rest + precision.gap / 64
        exact = math.copysign(nearest_simple(abs(factor), error, precision.gap), factor)
        parts.append(f"× {factor_text(exact)} in {_names(rows)}")
    parts += [f"{len(clusters) - _NAMED} more factors"] if len(clusters) > _NAMED else []
    note = (
        "A loss term that reaches these tensors alone has another weight, or their gradients are scaled or reduced in "
        "another way. Settings for each group of parameters would make up for it; the loss's factor does not."
    )
    return Verdict(
        "factors", f"b is a multiple of a in each tensor, but not the same: {'; '.join(parts)}", notes=(note,)
    )


def _no_factor(both: Rows, unequal: Rows, overall: Together, precision: Precision) -> Verdict:
    rest = overall.rest
    size = f"cosine {overall.cosine:.6g}, b is {factor_text(abs(overall.factor))} times as long"
    if precision.noise >= _EXPLAINS * rest:
        return _random(size, rest, precision)
    if not precision.known and max(rest, *(row.rest for row in both)) <= _BFLOAT16:
        return _unclear(overall.factor, rest)
    of = "" if len(unequal) == len(both) else f" in {len(unequal)} of {len(both)} tensors, {_names(unequal)}"
    text = f"no factor makes a into b{of}: {size}, and {percent(rest)} of b is not along a"
    causes = ["examples are weighted unequally, as in a mean of means over pieces with other numbers of tokens"]
    causes += ["the two see other data"]
    causes += ["batch norm takes its statistics from each piece"] if precision.batch_norm else []
    causes += ["random numbers are drawn in another order"] if precision.drawn else []
    causes += ["random numbers differ"] if precision.drawn is None else []
    notes = [f"Either {', or '.join(causes)}. No setting of an optimizer makes up for it."]
    if rest < _SMALL:
        notes.append("So small a difference may be rounding that has grown: float64 shows whether it is.")
    if not math.isnan(precision.noise):
        again = "run again with other random numbers" if precision.drawn else "run again"
        notes.append(
            f"a agrees with itself, {again}, {_within(precision.noise) if precision.noise else 'bit for bit'}."
        )
    return Verdict("unequal", text, notes=tuple(notes))


def _random(size: str, rest: float, precision: Precision) -> Verdict:
    own = percent(precision.noise)
    text = f"a differs from itself by {own} when it runs again, and from b by {percent(rest)}: {size}"
    if precision.drawn:
        note = "It draws random numbers: switch dropout off (model.eval()), fix the data, and compare again."
    else:
        note = "It takes its next data each time, or its kernels do not repeat themselves: fix both, and compare again."
    return Verdict("random", text, notes=(note,))


def _unclear(overall: float, rest: float) -> Verdict:
    note = (
        "That is how far bfloat16 rounds, as under autocast, and more than float32 does: in float32, examples are "
        "weighted unequally. A tolerance, 0.09 or 0.0003, decides."
    )
    return Verdict("unclear", f"b is {factor_text(overall)} × a {_within(rest)}", notes=(note,))


def _within(rest: float) -> str:
    return f"to within {rest:.0e}"


# Notes on the other tensors.


def _notes(rows: Rows, kind: str) -> list[str]:
    notes = []
    for status, words in (("only_a", ("a", "b")), ("only_b", ("b", "a"))):
        own = [row for row in rows if row.status == status]
        if own:
            notes.append(f"A gradient in {words[0]}, and none in {words[1]}: {_names(own)}.")
    zeros = [row for row in rows if row.status == "zero" and math.isnan(row.rms_a) != math.isnan(row.rms_b)]
    if zeros:
        notes.append(
            f"None in one, zeros in the other: {_names(zeros)}; an optimizer leaves the one alone and decays the other."
        )
    small = [row for row in rows if row.status == "too_small"]
    if small and kind != "unequal":
        notes.append(f"Too small to tell, beside the rounding of the others: {_names(small)}.")
    return notes


def _none_in_common(rows: Rows) -> str:
    of_a = any(row.status == "only_a" for row in rows)
    of_b = any(row.status == "only_b" for row in rows)
    if of_a and of_b:
        return "no tensor has a gradient in both"
    if of_a or of_b:
        without = "b" if of_a else "a"
        return f"{without} has no gradient: its loss is detached from these parameters, or backward() is missing"
    return "all gradients are zero"


def _not_finite(rows: Rows) -> dict[str, list[ComparedGradient]]:
    sides = {"a": [row for row in rows if row.rms_a == math.inf], "b": [row for row in rows if row.rms_b == math.inf]}
    return {side: of for side, of in sides.items() if of}


def _names(rows: Rows) -> str:
    return brief_names([row.parameter for row in rows], _NAMED)
