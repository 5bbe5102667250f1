"""Which findings are muted: arguments, or the table ``[tool.scaleinv]`` of a project's pyproject.toml."""

import math
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from scaleinv._audit.findings import KINDS, Finding, Severity

FAIL_ON = "fault", "warning"  # the severities that ``fail-on`` takes


@dataclass(frozen=True)
class Settings:
    """What a project sets.

    Attributes:
        mute: findings not to be shown, each as ``check_mutes`` takes them; "*" is any kind.
        fail_on: the severity from which the command fails; empty for none.
    """

    mute: tuple[str, ...] = ()
    fail_on: str = ""


def project_settings(folder: Path | None = None) -> Settings:
    """The settings of the nearest pyproject.toml that has some, in a folder or above it.

    Args:
        folder: by default the current one.

    Raises:
        ValueError: if the file is not TOML, or a key or a value of the table is not known.

    >>> from scaleinv._audit.settings import project_settings
    >>> project_settings()
    Settings(mute=(), fail_on='')
    """
    folder = (folder or Path.cwd()).resolve()
    for path in (each / "pyproject.toml" for each in (folder, *folder.parents)):
        if path.is_file():
            table = _table(path)
            if table is not None:
                return _settings(path, table)
    return Settings()


def _table(path: Path) -> Any:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("scaleinv")
    except (AttributeError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error


def _settings(path: Path, table: Any) -> Settings:
    where = f"{path}: [tool.scaleinv]"
    if not isinstance(table, Mapping) or table.keys() - {"mute", "fail-on"}:
        unknown = ", ".join(sorted(table.keys() - {"mute", "fail-on"})) if isinstance(table, Mapping) else table
        raise ValueError(f"{where} has {unknown}; it takes mute and fail-on")
    fail_on = table.get("fail-on", "")
    if fail_on not in ("", *FAIL_ON):
        raise ValueError(f"{where}: fail-on={fail_on!r} is not one of {', '.join(map(repr, FAIL_ON))}")
    return Settings(check_mutes(table.get("mute", ()), f"{where}: mute"), fail_on)


def check_mutes(mute: Any, name: str = "mute") -> tuple[str, ...]:
    """The mutes, each "kind", "kind<size", "kind:pattern" or "kind<size:pattern".

    Args:
        mute: a list of them.
        name: of the argument, for errors.

    Raises:
        TypeError: if it is not a list of strings.
        ValueError: if a kind is not one of ``KINDS``, or a size is not a number.

    >>> from scaleinv._audit.settings import check_mutes
    >>> check_mutes(["much_decay", "moves_unlike_the_rest<20", "*:head.*"])
    ('much_decay', 'moves_unlike_the_rest<20', '*:head.*')
    """
    if isinstance(mute, str) or not isinstance(mute, Collection) or not all(isinstance(each, str) for each in mute):
        raise TypeError(f"{name}={mute!r} is not a list of strings; pass such as ['much_decay:*.bias']")
    for each in mute:
        try:
            kind = _parsed(each).kind
        except ValueError as error:
            raise ValueError(f"{name}: {each!r}: {error}; write such as 'moves_unlike_the_rest<20'") from None
        if kind not in (*KINDS, "*"):
            raise ValueError(f"{name}: {each!r}: there is no kind {kind!r} of findings; there are {', '.join(KINDS)}")
    return tuple(mute)


def is_muted(finding: Finding, mute: Iterable[str]) -> bool:
    """Whether a finding is of a muted kind; where the mute has a size, smaller; where it has a pattern, of parameters
    whose names all match it.

    >>> from scaleinv._audit.findings import Finding, Severity
    >>> from scaleinv._audit.settings import is_muted
    >>> finding = Finding(Severity.WARNING, "weight decay is ...", ("0.bias", "1.bias"), kind="much_decay")
    >>> is_muted(finding, ["much_decay:*.bias"]), is_muted(finding, ["much_decay:0.*"])
    (True, False)
    """
    return any(each.covers(finding) for each in map(_parsed, mute))


class _Mute(NamedTuple):
    kind: str
    below: float = math.inf
    pattern: str | None = None

    def covers(self, finding: Finding) -> bool:
        if self.kind not in (finding.kind, "*") or not (finding.size < self.below or self.below == math.inf):
            return False
        if self.pattern is None:
            return True
        return bool(finding.parameters) and all(fnmatchcase(name, self.pattern) for name in finding.parameters)


def _parsed(mute: str) -> _Mute:
    about, colon, pattern = mute.partition(":")
    kind, less, size = about.partition("<")
    return _Mute(kind.strip(), float(size) if less else math.inf, pattern if colon else None)


def fails(findings: Iterable[Finding], fail_on: str) -> bool:
    """Whether a finding has the severity, or a higher one."""
    return bool(fail_on) and any(finding.severity >= Severity[fail_on.upper()] for finding in findings)
