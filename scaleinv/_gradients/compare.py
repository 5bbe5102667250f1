"""``compare_gradients``: two backward passes of the user's own, side by side."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor, nn

from scaleinv._checks import check_scale
from scaleinv._gradients.factors import factor_text
from scaleinv._gradients.names import matched
from scaleinv._gradients.rehearsal import Rehearsal, gap
from scaleinv._gradients.result import GradientComparison
from scaleinv._gradients.row import ComparedGradient, compare_tensors, relative_difference
from scaleinv._gradients.seen import OptimizerOrUnits, check_optimizer, seen_by
from scaleinv._gradients.sources import Gradients, Terms, is_terms, read
from scaleinv._gradients.verdict import Precision, Verdict, judge

Step: TypeAlias = Callable[[], Any]
Gradient: TypeAlias = Step | Mapping[str, Any] | nn.Module | str | Path


def compare_gradients(
    a: Gradient,
    b: Gradient,
    model: nn.Module | None = None,
    *,
    optimizer: OptimizerOrUnits | None = None,
    tolerance: float | None = None,
) -> GradientComparison:
    """Compare the gradients of two backward passes, of which one may be n times off or weigh examples unequally.

    A step is a function without arguments that runs your own forward and backward passes, one or several, and leaves
    the gradients on ``model``; or returns the loss, of which this function then takes the gradient.  It may accumulate
    pieces and use DDP, FSDP 2, autocast or a ``GradScaler``, but takes no step of an optimizer; with the Trainer of
    transformers, ``lambda: trainer.training_step(model, batch)`` is a step.  ``a`` runs, ``b`` runs, and
    ``a`` runs again to see how far it agrees with itself.  ``a`` and ``b`` begin at the same random numbers, gradients
    of None, and buffers and modes as they are now; afterwards all of these are put back.  In several processes, each
    has to call it.

    Args:
        a: a step; or gradients that are there: a mapping name → gradient, a model that holds them, or the path of a
            file, by ``torch.save`` or safetensors, of such a mapping.  For several loss terms, a mapping from each to
            one of these, or a step that returns a dict of losses.
        b: the same.  Names are matched to those of ``a`` without what DDP, FSDP or ``torch.compile`` add.
        model: on which steps leave their gradients.  Without it a step returns them.
        optimizer: one, its class, or the result of ``infer_units``: says what it sees of the factor.
        tolerance: share of a gradient by which it may differ from a multiple and still be one; by default half of
            the digits of the coarsest number format in which the gradients, or the outputs of modules, are: 3e-4 for
            float32, 0.09 for bfloat16.

    Returns:
        A ``GradientComparison``.  It holds no tensors.  While the function runs, two gradients, with all their shards,
        are in the CPU's memory.

    Raises:
        OSError: if a file cannot be read.
        TypeError: if ``a`` or ``b`` is none of these, or ``model`` is not a module.
        ValueError: if they have no name in common, or shapes differ; a step leaves out its backward pass in both,
            or calls an optimizer's ``step()``; a gradient has no numbers; ``tolerance`` is not between 0 and 1; or the
            optimizer's units are not known.

    >>> import torch, scaleinv
    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.randn(6, 4), torch.randn(6, 2)
    >>> def whole():
    ...     torch.nn.functional.mse_loss(model(x), y).backward()
    >>> def accumulated():
    ...     for i in range(3):
    ...         torch.nn.functional.mse_loss(model(x[2 * i : 2 * i + 2]), y[2 * i : 2 * i + 2]).backward()
    >>> result = scaleinv.compare_gradients(whole, accumulated, model, optimizer=torch.optim.AdamW)
    >>> result.kind, result.factor
    ('factor', 3.0)
    """
    _check(model, optimizer, tolerance)
    rehearsal = Rehearsal(model)
    noise = math.nan
    try:
        terms_a, terms_b = (_run(rehearsal, name, each) for name, each in (("a", a), ("b", b)))
        terms_a, terms_b = _paired(terms_a, terms_b)
        compared = {term: _compared(terms_a[term], terms_b[term]) for term in terms_a}
        gaps = [
            gap(each)
            for terms in (terms_a, terms_b)
            for of in terms.values()
            for each in of.values()
            if each is not None
        ]
        del terms_b
        again = _again(rehearsal, a)
        if again is not None:
            noise = relative_difference(_pairs(terms_a, again))
    finally:
        rehearsal.finish()
    coarsest = max([*gaps, rehearsal.coarsest])
    if tolerance is not None:
        coarsest = float(tolerance) ** 2
    known = rehearsal.coarsest > 0 or tolerance is not None
    precision = Precision(math.sqrt(coarsest), coarsest, known, noise, rehearsal.draws, _has_batch_norm(model))
    results = {term: _result(rows, precision, optimizer) for term, rows in compared.items()}
    return results[""] if list(results) == [""] else _of_terms(results, precision, optimizer)


def _check(model: Any, optimizer: Any, tolerance: Any) -> None:
    if model is not None and not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} is not a torch.nn.Module; pass the one on which steps leave their gradients")
    if model is not None and any(p.is_meta for p in model.parameters()):
        raise ValueError("model: it is on the meta device and has no numbers; pass one with numbers")
    if optimizer is not None:
        check_optimizer(optimizer)
    if tolerance is not None and check_scale("tolerance", tolerance) >= 1:
        raise ValueError(f"tolerance={tolerance!r} is not a share below 1; pass one such as 0.001")


def _run(rehearsal: Rehearsal, argument: str, value: Any, *, other_random: bool = False) -> Terms:
    if isinstance(value, nn.Module) or not (callable(value) or is_terms(value)):
        return read(argument, value)
    if callable(value):
        return rehearsal.run(argument, value, other_random=other_random)
    terms = {}
    for term, each in value.items():
        inner = _run(rehearsal, f"{argument}[{term!r}]", each, other_random=other_random)
        if list(inner) != [""]:
            raise TypeError(f"{argument}[{term!r}] is of several loss terms again; pass one level of them")
        terms[str(term)] = inner[""]
    return terms


def _again(rehearsal: Rehearsal, a: Any) -> Terms | None:
    """The gradients of a's steps, run again; None where it has none, or they do not run twice."""
    steps = a.values() if is_terms(a) else [a]
    if any(isinstance(each, nn.Module) or not callable(each) for each in steps):
        return None
    try:
        return _run(rehearsal, "a", a, other_random=bool(rehearsal.draws))
    except Exception:  # whatever the user's code may raise, as a GradScaler that has unscaled already
        return None


def _paired(a: Terms, b: Terms) -> tuple[Terms, Terms]:
    if a.keys() != b.keys():
        texts = [", ".join(map(repr, terms)) if list(terms) != [""] else "one loss" for terms in (a, b)]
        raise ValueError(f"a is of {texts[0]} and b of {texts[1]}; give both the same loss terms")
    pairs = {term: matched(a[term], b[term]) for term in a}
    for one, other in pairs.values():
        if not one.keys() & other.keys():
            names = [next(iter(each), "no tensor") for each in (one, other)]
            raise ValueError(f"a and b have no name in common: {names[0]!r} in a, {names[1]!r} in b; compare one model")
    if all(each is None for one, other in pairs.values() for each in (*one.values(), *other.values())):
        raise ValueError("a and b leave no gradient; call backward() in them, or return the loss")
    return {term: pair[0] for term, pair in pairs.items()}, {term: pair[1] for term, pair in pairs.items()}


def _compared(a: Gradients, b: Gradients) -> list[ComparedGradient]:
    rows = []
    for name in {**a, **b}:
        x, y = a.get(name), b.get(name)
        if x is not None and y is not None and x.shape != y.shape:
            raise ValueError(
                f"{name!r} has the shape {tuple(x.shape)} in a and {tuple(y.shape)} in b; compare one model"
            )
        if x is not None or y is not None:
            rows.append(compare_tensors(name, x, y))
    return rows


def _pairs(a: Terms, again: Terms) -> Iterator[tuple[Tensor, Tensor]]:
    """The gradients of all tensors that have one in both."""
    for term, gradients in a.items():
        for name, gradient in gradients.items():
            other = again.get(term, {}).get(name)
            if gradient is not None and other is not None:
                yield gradient, other


def _has_batch_norm(model: nn.Module | None) -> bool:
    modules = model.modules() if model is not None else ()
    return any(isinstance(each, nn.modules.batchnorm._BatchNorm) and each.training for each in modules)


def _result(
    rows: list[ComparedGradient], precision: Precision, optimizer: OptimizerOrUnits | None
) -> GradientComparison:
    judged, verdict = judge(rows, precision)
    return GradientComparison(verdict, judged, precision.noise, precision.tolerance, _seen(verdict, optimizer))


def _seen(verdict: Verdict, optimizer: OptimizerOrUnits | None) -> str:
    return seen_by(optimizer, verdict.factor) if optimizer is not None and verdict.kind == "factor" else ""


def _of_terms(
    results: dict[str, GradientComparison], precision: Precision, optimizer: OptimizerOrUnits | None
) -> GradientComparison:
    """The verdict on all loss terms together."""
    kinds = {each.kind for each in results.values()}
    factors = {term: each.factor for term, each in results.items()}
    if kinds <= {"equal", "factor", "sign"}:
        one = next(iter(factors.values()))
        if all(abs(factor - one) <= precision.tolerance * abs(one) for factor in factors.values()):
            verdict = next(iter(results.values())).verdict
            verdict = replace(verdict, text=f"{verdict.text}, of all {len(results)} loss terms")
            return GradientComparison(
                verdict, (), precision.noise, precision.tolerance, _seen(verdict, optimizer), _unseen(results)
            )
        texts = ", ".join(f"{term} × {factor_text(factor)}" for term, factor in factors.items())
        note = (
            "No setting of an optimizer makes up for it: their sum has another direction. Give the loss terms the same "
            "factor."
        )
        verdict = Verdict("terms", f"the loss terms have different factors: {texts}", notes=(note,))
    else:
        worst = max(kinds, key=_ORDER.index)
        term, first = next((term, each) for term, each in results.items() if each.kind == worst)
        verdict = Verdict(worst, f"loss term {term}: {first.verdict.text}")
    return GradientComparison(verdict, (), precision.noise, precision.tolerance, "", _unseen(results))


_ORDER = ["equal", "factor", "sign", "factors", "missing", "unclear", "random", "unequal", "not_finite"]


def _unseen(results: dict[str, GradientComparison]) -> dict[str, GradientComparison]:
    return {term: replace(each, seen="") for term, each in results.items()}
