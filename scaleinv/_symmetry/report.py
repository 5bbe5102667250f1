"""An optimizer's symmetries as a report for a terminal."""

from rich.console import Group, RenderableType
from rich.text import Text

from scaleinv._report import percent, table
from scaleinv._symmetry.result import Symmetries

FACTORS = {
    "global": "one factor for all",
    "tensor": "one for each tensor",
    "column": "one for each column",
    "row": "one for each row",
    "entry": "one for each entry",
}
ROTATED = {
    "rows": "rows are mixed (QG)",
    "columns": "columns are mixed (GQ)",
    "tensor": "all entries of a tensor are mixed",
    "global": "all entries of all tensors are mixed",
}
LEFT_ALONE = {
    "none": "no factor of the gradient leaves the update alone",
    "global": "one factor for all gradients leaves the update alone",
}
GOES_ALONG = {
    "none": "no rotation",
    "rows": "rotations that mix rows",
    "columns": "rotations that mix columns",
    "rows, columns": "rotations that mix rows, and ones that mix columns",
    "tensor": "any rotation of a tensor's entries",
    "global": "any rotation, also one that mixes tensors",
}


def symmetry_report(symmetries: Symmetries) -> Group:
    """Report what ``symmetries_of`` measured.

    Args:
        symmetries: its result.

    Returns:
        An object for ``rich.print`` or a ``rich`` console of any width.

    >>> import torch
    >>> from rich.console import Console
    >>> from scaleinv import symmetries_of
    >>> from scaleinv._symmetry import symmetry_report
    >>> Console(width=80).print(symmetry_report(symmetries_of(torch.optim.Rprop)))  # doctest: +NORMALIZE_WHITESPACE
    Rprop: a factor for each entry of the gradient leaves the update alone, bit for
    bit. The update goes along with no rotation.
    <BLANKLINE>
                         the update  gradients
    gradients times      changes by  of about 1
    one factor for all   0           0
    one for each tensor  0           0
    one for each column  0           0
    one for each row     0           0
    one for each entry   0           0
    <BLANKLINE>
    gradients rotated                     the update deviates by
    rows are mixed (QG)                   56 %
    columns are mixed (GQ)                53 %
    all entries of a tensor are mixed     64 %
    all entries of all tensors are mixed  68 %
    <BLANKLINE>
    A factor with 0 leaves every bit alone. It is applied to gradients of 1e+18.
    """
    both = symmetries.scaled, symmetries.scaled_at_one
    factors = [(text, *(_text(shares[name]) for shares in both)) for name, text in FACTORS.items()]
    rotations = [(text, _text(symmetries.rotated[name])) for name, text in ROTATED.items()]
    parts: list[RenderableType] = [
        _verdict(symmetries),
        table(("gradients times", "the update\nchanges by", "gradients\nof about 1"), factors),
        table(("gradients rotated", "the update deviates by"), rotations),
        Text(_note(symmetries)),
    ]
    lines: list[RenderableType] = []
    for part in parts:
        lines += [Text(), part]
    return Group(*lines[1:])


def _verdict(symmetries: Symmetries) -> Text:
    scales = symmetries.scales
    each = scales.replace(", ", ", or for each ")
    left_alone = LEFT_ALONE.get(scales, f"a factor for each {each} of the gradient leaves the update alone")
    how = ", bit for bit" if symmetries.bitwise else "" if scales == "none" else ", within rounding"
    goes_along = GOES_ALONG[symmetries.rotations]
    name = f"{symmetries.name}: ", "bold"
    return Text.assemble(name, f"{left_alone}{how}. The update goes along with {goes_along}.")


def _note(symmetries: Symmetries) -> str:
    holding = [name for name, share in symmetries.scaled.items() if share <= symmetries.rounding]
    breaks = any(symmetries.scaled_at_one[name] > symmetries.rounding for name in holding)
    where = "; where they are about 1, eps, or what else is compared with them, acts" if breaks else ""
    return f"A factor with 0 leaves every bit alone. It is applied to gradients of {symmetries.size:.0e}{where}."


def _text(share: float) -> str:
    if share == 0:
        return "0"
    return percent(share) if share >= 1e-4 else f"{share:.0e}"
