"""Words of a command line: hyperparameters, and names of Python objects."""

import ast
import contextlib
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def parse_hyperparameters(words: Sequence[str]) -> dict[str, Any]:
    """Read ``--lr 1e-3 --betas=0.9,0.95 --nesterov`` as a dict.

    Hyphens in names become underscores, a name without a value is True, and a value that is not a Python literal is a
    string.

    Raises:
        ValueError: if a value follows no name.

    >>> from scaleinv._cli import parse_hyperparameters
    >>> parse_hyperparameters(["--lr", "1e-3", "--betas=0.9,0.95", "--nesterov"])
    {'lr': 0.001, 'betas': (0.9, 0.95), 'nesterov': True}
    """
    hyperparameters: dict[str, Any] = {}
    name = None
    for word in _split_at_equals(words):
        if word.startswith("--"):
            hyperparameters[name := word[2:].replace("-", "_")] = True
        elif name is None:
            raise ValueError(f"{word!r} follows no name; give --name value, and tuples with commas: --betas 0.9,0.95")
        else:
            hyperparameters[name], name = _literal(word), None
    return hyperparameters


def parse_expected(words: Sequence[str], example: str, option: str = "--expect") -> dict[str, str]:
    """Read ``lr=W`` and others, each the value of an option such as ``--expect``, as a dict.

    Raises:
        ValueError: if there is no ``=``, or a name is given twice.

    >>> from scaleinv._cli.words import parse_expected
    >>> parse_expected(["lr=W", "eps=L W^-1"], "lr=W")
    {'lr': 'W', 'eps': 'L W^-1'}
    """
    expected: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(f"{option} {word!r} is not NAME=VALUE; give one as in {option} {example}")
        if name in expected:
            raise ValueError(f"{option} {name} is given twice")
        expected[name] = value.strip()
    return expected


def _split_at_equals(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        yield from word.split("=", 1) if word.startswith("--") else [word]


def _literal(word: str) -> Any:
    for read in (ast.literal_eval, float):  # nan and inf are not literals
        with contextlib.suppress(SyntaxError, ValueError):
            return read(word)
    return word


def import_optimizer(path: str) -> Any:
    """Import the optimizer class, or the function that makes an optimizer, that a path names.

    Args:
        path: ``package.module.Name``; ``Name`` alone is looked up in ``torch.optim``.

    Raises:
        ImportError: if nothing of that name can be imported.
        TypeError: if it is not an optimizer.

    >>> from scaleinv._cli import import_optimizer
    >>> import_optimizer("AdamW") is import_optimizer("torch.optim.AdamW")
    True
    """
    module, _, name = path.rpartition(".")
    try:
        factory = import_name(module or "torch.optim", name)
    except ImportError as error:
        raise ImportError(f"{path}: {error}; it has to be package.module.Name{_similar(name)}") from error
    if not callable(factory) or isinstance(factory, type) and not hasattr(factory, "step"):
        advice = _similar(name) or "; give one such as torch.optim.AdamW"
        raise TypeError(f"{path} is not an optimizer: it has no step(){advice}")
    return factory


def import_function(path: str) -> Callable[[], Any]:
    """Import the function that ``package.module:function`` names.

    Raises:
        ImportError: if nothing of that name can be imported.
        TypeError: if it cannot be called.

    >>> from scaleinv._cli.words import import_function
    >>> import_function("os:getcwd").__name__
    'getcwd'
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        function = import_name(module, name)
    except ImportError as error:
        raise ImportError(f"{path}: {error}; it has to be package.module:function") from error
    if not callable(function):
        raise TypeError(f"{path} is not a function; give one without arguments")
    return function


def import_name(module: str, name: str) -> Any:
    """An object of a module.

    Raises:
        ImportError: if it is not there, or the module cannot be imported.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a user's module may raise
        raise ImportError(f"{type(error).__name__}: {error}") from error


def check_names(factory: Callable[..., Any], names: Sequence[str], others: str = "") -> None:
    """Check that an optimizer takes all these hyperparameters.

    Args:
        factory: makes the optimizer.
        names: of hyperparameters.
        others: what a name could be besides, in words.

    Raises:
        ValueError: if it does not take one.
    """
    try:
        parameters = list(inspect.signature(factory).parameters.values())[1:]
    except (TypeError, ValueError):  # of code that is not Python
        return
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {_option(near[0])}?" if near else f"it takes {', '.join(map(_option, known))}"
            optimizer = getattr(factory, "__name__", "the optimizer")
            raise ValueError(f"{_option(name)} is unknown: no hyperparameter of {optimizer}{others}; {advice}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _similar(name: str) -> str:
    """The class of ``torch.optim`` that has nearly this name, as advice; "" without one."""
    from scaleinv.known_optimizers import KNOWN

    names = {each.__name__.lower(): each.__name__ for each in KNOWN}
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.8)
    return f"; did you mean torch.optim.{names[near[0]]}?" if near else ""
