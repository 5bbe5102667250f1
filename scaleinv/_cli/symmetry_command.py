"""``symmetry``: which factors of the gradient an optimizer's update does not see, and which rotations it follows."""

from collections.abc import Sequence
from functools import partial

from scaleinv._cli.outcome import Outcome
from scaleinv._cli.units_command import measure
from scaleinv._cli.words import parse_expected, parse_hyperparameters
from scaleinv._report import as_json
from scaleinv._symmetry import symmetries_of, symmetry_report
from scaleinv.testing import assert_symmetry


def symmetry_outcome(path: str, words: Sequence[str], expected: Sequence[str], in_json: bool) -> Outcome:
    """The report, or a JSON document, on the optimizer that a path names, with hyperparameters from words.

    ``expected`` are words such as ``scales=entry``: where a symmetry is another, the outcome says so.
    """
    wanted = parse_expected(expected, "scales=entry")
    unknown = wanted.keys() - {"scales", "rotations"}
    if unknown:
        raise ValueError(f"--expect {min(unknown)}: no such symmetry; give scales=entry or rotations=none")
    how = partial(assert_symmetry, **wanted) if wanted else symmetries_of
    try:
        symmetries = measure(path, parse_hyperparameters(words), how)
    except AssertionError as error:
        return Outcome(str(error), 1)
    if in_json:
        return Outcome(as_json(symmetries.as_dict()))
    return Outcome(symmetry_report(symmetries))
