"""Where a training does not go on as before after a change of optimizer."""

from collections.abc import Iterator, Sequence

from torch import optim

from scaleinv._switch.carried import Carried, Settings, depends_on


def limits(old_name: str, new: Settings, rows: Sequence[Carried], staying: int) -> Iterator[str]:
    """The limits of a switch, in sentences.

    Args:
        old_name: of the old optimizer.
        new: the new one.
        rows: the settings of its tensors.
        staying: how many tensors stay with the old one.
    """
    yield "Steps have the same RMS under noise, not the same direction: sweep around this lr."
    first = sorted(row.first for row in rows)
    span = f"{first[0]:.2g}" if first[-1] <= 1.1 * first[0] else f"{first[0]:.2g} to {first[-1]:.2g}"
    times = f"{span} times as large as that of {old_name}" if first[-1] else "no step at all"
    yield f"Where a gradient lasts, as at the start, steps differ: the first one of {new.name} is {times}."
    yield from _what_changes(new)
    if new.factory is optim.Adafactor:
        step = 1 / max(row.lr for row in rows) ** 2
        yield f"Adafactor's lr is at most 1/√step: from step {step:.2g} on it is lower than this, and decay stays."
    if new.factory is optim.Muon:
        also = f" {staying} tensors stay with {old_name}." if staying else ""
        yield f"Muon is not for embeddings and output layers, which are matrices too: pass them in keep.{also}"
        yield "Newton and Schulz leave some singular values below 1: Muon's steps are up to 20 % smaller than this."
    yield "A schedule multiplies lr as before; eps, clipping and momentum are those of the new optimizer."


def _what_changes(new: Settings) -> Iterator[str]:
    names = depends_on(new)
    if "gradient_rms" in names:
        yield f"A step of {new.name} is proportional to the gradient: when gradients become smaller, so does the step."
    if "rms" in names:
        yield f"A step of {new.name} is proportional to the parameter's RMS: when that changes, so does the step."
