"""The examples and commands of the texts run. The library's page is complete."""

import ast
import contextlib
import importlib
import inspect
import io
import pkgutil
import re
import shlex
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import pytest
import torch

import scaleinv
from scaleinv._cli import main

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "book").rglob("*.md"))]
API = ROOT / "book" / "api.md"
EVERY_MODULE = ["scaleinv", *(module.name for module in pkgutil.walk_packages(scaleinv.__path__, "scaleinv."))]
PUBLIC_MODULES = [name for name in EVERY_MODULE if not any(part.startswith("_") for part in name.split("."))]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Examples run in an empty folder and draw on no screen."""
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)


# Texts: each block of Python runs, and an expression with a value beside it has that value.

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
UNIT = r"1|[LW]\S*( W\S*)?"


def examples(text):
    return [match[1] for match in BLOCK.finditer(text)]


def is_value(comment):
    """Whether a comment is a value, as Python or a unit is written, and not a remark in words."""
    with contextlib.suppress(ValueError, SyntaxError):
        ast.literal_eval(comment)
        return True
    return bool(re.fullmatch(UNIT, comment)) or comment.startswith(("<", "(", "[", "{")) or " " not in comment


def run_example(source, names):
    """Run a block, and return (comment, result) for every expression with a value beside or below it."""
    beside, below = {}, {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            place = below if token.line.lstrip().startswith("#") else beside
            place[token.start[0]] = token.string.lstrip("# ")
    compared = []
    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.Expr):
            exec(compile(ast.Module([statement], []), "example", "exec"), names)
            continue
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            value = eval(compile(ast.Expression(statement.value), "example", "eval"), names)
        comment = beside.get(statement.end_lineno) or below.get(statement.end_lineno + 1, "a remark")
        if is_value(comment):
            compared.append((comment, repr(value) if value is not None else printed.getvalue().strip()))
    return compared


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_the_examples_of_a_text_run_and_have_the_values_beside_them(path):
    names, compared = {}, []
    for source in examples(path.read_text()):
        compared += run_example(source, names)
    assert [written for written, _ in compared] == [result for _, result in compared]
    assert compared or path.stem not in ("README", "intro")


@pytest.mark.parametrize(
    "source, compared",
    [
        ("x = 2\nx + 2  # 4", [("4", "4")]),
        ("2 + 2  # 5", [("5", "4")]),
        ("{'a': 1}    # {'a': 2}", [("{'a': 2}", "{'a': 1}")]),
        ("dict(\n    a='# 3'\n)  # {}", [("{}", "{'a': '# 3'}")]),
        ("print(1, 2)  # (1, 2)", [("(1, 2)", "1 2")]),
        ("from scaleinv.units import G\nG  # L W⁻²", [("L W⁻²", "L W⁻¹")]),
        ("object  # <class 'int'>", [("<class 'int'>", "<class 'object'>")]),
        ("2 + 2  # the sum, four", []),
        ("2 + 2\n# 5\n3 + 3  # 6\n# 7", [("5", "4"), ("6", "6")]),
        ("2 + 2\n# the sum, four", []),
        ("# 4\n2 + 2\n\n# 5\nx = 5  # 6\n# 7", []),
    ],
)
def test_values_written_beside_expressions_are_found(source, compared):
    assert run_example(source, {}) == compared


def test_an_example_that_raises_raises():
    with pytest.raises(ZeroDivisionError):
        run_example("x = 1\nx / 0  # a remark", {})
    assert examples("text\n```python\nx = 1\n```\n```text\ny\n```\n```python\nz\n```\n") == ["x = 1\n", "z\n"]


# Commands: `python -m scaleinv ...`, in a line of its own or in backquotes.

WIDE = "tests.library.width.shared"
COMMAND = re.compile(r"^    python -m scaleinv (.*)$|`python -m scaleinv ([^`]*)`", re.MULTILINE)


def commands(text):
    """The commands of a text, with files for MODEL.pt, A.pt and others, and objects of ours for those of mypackage."""
    for match in COMMAND.finditer(text):
        words = (match[1] or match[2]).replace("mypackage.MyOptimizer", "torch.optim.AdamW")
        yield shlex.split(words.replace("mypackage:make_model", f"{WIDE}:mlp").replace("mypackage:", f"{WIDE}:"))


def save_a_training():
    model = torch.nn.Linear(8, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(8)).sum().backward()
    optimizer.step()
    torch.save(model.state_dict(), "MODEL.pt")
    torch.save(optimizer.state_dict(), "OPTIMIZER.pt")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "CHECKPOINT")
    for file in ("A.pt", "B.pt"):
        torch.save({name: p.grad for name, p in model.named_parameters()}, file)


@pytest.mark.parametrize("path", [ROOT / "README.md", API], ids=lambda path: path.stem)
def test_the_commands_of_a_text_run(path, capsys):
    save_a_training()
    found = list(commands(path.read_text()))
    assert {words[0] for words in found} == {"units", "symmetry", "convert", "width", "audit", "gradients"}
    for words in found:
        assert main(words) == 0 and capsys.readouterr().out, words


# The library's page: every name on it exists, has an example, and every public name is on it.

DIRECTIVE = re.compile(r"^\.\. (\w+|py:data):: (\S+)$")


@dataclass
class Page:
    """The names that a page documents, in full; a module with ``:members:`` stands for all its public names."""

    names: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, text):
        page, current = cls(), ""
        directive = argument = None
        for block in re.findall(r"^```\{eval-rst\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if match := DIRECTIVE.match(line):
                    directive, argument = match.groups()
                    if directive == "currentmodule":
                        current = argument + "."
                    elif directive == "automodule":
                        page.modules.append(argument)
                    else:
                        page.names.append(argument if argument.startswith("scaleinv.") else current + argument)
                elif line.strip().startswith(":members:") and directive == "automodule":
                    page.names += members(argument, line.partition(":members:")[2])
        return page

    def documents(self, name):
        """Whether a name is on the page, or the same object under another name."""
        value = pkgutil.resolve_name(name)
        if name in self.names or not (inspect.isroutine(value) or inspect.isclass(value)):
            return name in self.names or any(pkgutil.resolve_name(other) is value for other in self.names)
        return any(pkgutil.resolve_name(other) is value for other in self.names)


def members(module, listed=""):
    """The full names of a module's members: those listed, or the public ones that have a docstring of their own."""
    names = listed.replace(",", " ").split() or [name for name in public_names(module) if is_described(module, name)]
    return [f"{module}.{name}" for name in names]


def is_described(module, name):
    value = getattr(importlib.import_module(module), name)
    return inspect.isroutine(value) or inspect.isclass(value)


def public_names(module):
    """``__all__``, without submodules and without names that are deprecated."""
    imported = importlib.import_module(module)
    names = [name for name in getattr(imported, "__all__", ()) if not inspect.ismodule(getattr(imported, name))]
    return [name for name in names if not (getattr(imported, name).__doc__ or "").startswith("Deprecated")]


PAGE = Page.read(API.read_text())


def test_public_modules_say_which_names_are_public():
    assert [name for name in PUBLIC_MODULES if not hasattr(importlib.import_module(name), "__all__")] == []


@pytest.mark.parametrize("name", sorted({*PAGE.names, *PAGE.modules}))
def test_a_name_of_the_librarys_page_exists(name):
    assert pkgutil.resolve_name(name) is not None


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_every_public_name_is_on_the_librarys_page(module):
    assert [name for name in public_names(module) if not PAGE.documents(f"{module}.{name}")] == []


def test_no_name_is_twice_on_the_librarys_page():
    assert sorted(PAGE.names) == sorted(set(PAGE.names))


@pytest.mark.parametrize("name", PAGE.names)
def test_what_the_librarys_page_documents_has_an_example(name):
    value = pkgutil.resolve_name(name)
    assert not (inspect.isroutine(value) or inspect.isclass(value)) or ">>>" in (value.__doc__ or "")


def test_a_page_is_read_as_sphinx_reads_it():
    blocks = """
```{eval-rst}
.. currentmodule:: scaleinv
.. autoclass:: Unit
   :members: factor
.. py:data:: UNITS

   A table.
.. autofunction:: scaleinv.curves.best
```
.. autofunction:: outside
```{eval-rst}
.. automodule:: scaleinv.book.train
   :members: train, Run
.. automodule:: scaleinv.book.claims
   :members:
```
"""
    page = Page.read(blocks)
    assert page.modules == ["scaleinv.book.train", "scaleinv.book.claims"]
    claims = [f"scaleinv.book.claims.{name}" for name in ("ClaimFailed", "about", "claim", "predict", "verdict")]
    trained = ["scaleinv.book.train.train", "scaleinv.book.train.Run"]
    assert page.names == ["scaleinv.Unit", "scaleinv.UNITS", "scaleinv.curves.best", *trained, *claims]
    assert page.documents("scaleinv.units.Unit") and page.documents("scaleinv.book.claims.claim")
    assert page.documents("scaleinv.known_optimizers.UNITS")
    assert not page.documents("scaleinv.units.Units") and not page.documents("scaleinv.book.train.accuracy")
