"""How the modules of the library may depend on each other."""

import ast
import re
from importlib import import_module
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "scaleinv"

# The rooms, lowest first: each imports only from rooms before it.  A room is a wing (a private package), or a module.
ROOMS = """
    _version _checks _entries _float64 _norms _threads _report _kinds _leaves _random_state
    units laws measure changes curves _rule optimizers known_optimizers _stepping _hyperparameters
    _convert _reparam reparam _recording recorder _infer _symmetry testing _switch _width _sweep _curvature _audit
    _gradients
    integrations atlas _cli __main__ book __init__
""".split()
WINGS = {path.parent.name for path in PACKAGE.glob("_*/__init__.py")}
LONGEST = 350  # lines of code and comments, without docstrings

PUBLIC = ("*.md", "book/*.md", "book/*.ipynb", "benchmarks/*.py")
# What may look behind the public names, and why.
PRIVATE_IMPORTS = {
    "benchmarks/steps.py": "times the parts of a step one by one",
    "benchmarks/sweep_models.py": "runs its rivals on one thread, and asks for the bytes of a member",
    "benchmarks/sweep.py": "runs its rivals on one thread, and times the parts of a step",
}


def name_of(path):
    """Dotted name of the module in a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_in(code):
    """Names of all that a module imports from the library, wherever the statement stands: ``scaleinv.units.Unit``."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in names if name.split(".")[0] == "scaleinv")


def module_of(name):
    """The module that an imported name is, or is in; a wing may export a name that one of its modules has too."""
    parent = name.rpartition(".")[0]
    exported = parent.removeprefix("scaleinv.") in WINGS and name.rpartition(".")[2] in import_module(parent).__all__
    return name if name in MODULES and not exported else parent


def room_of(module):
    return (module.split(".") + ["__init__"])[1]


EDGES = [
    (name, module_of(imported))
    for name, path in MODULES.items()
    for imported in imports_in(path.read_text())
    if module_of(imported) != name
]


def test_every_room_is_listed_once():
    assert sorted(ROOMS) == sorted({room_of(name) for name in MODULES})


def test_rooms_import_only_from_rooms_before_them():
    rooms = {(room_of(importer), room_of(imported)) for importer, imported in EDGES}
    assert {(a, b) for a, b in rooms if ROOMS.index(b) > ROOMS.index(a)} == set()


def test_no_module_imports_itself_by_way_of_others():
    below = {name: {imported for importer, imported in EDGES if importer == name} for name in MODULES}
    while lowest := [name for name, imported in below.items() if not imported & below.keys()]:
        for name in lowest:
            del below[name]
    assert below == {}


def test_outside_a_wing_only_the_wing_itself_is_imported():
    inner = [edge for edge in EDGES if room_of(edge[1]) in WINGS and edge[1].count(".") > 1]
    assert [edge for edge in inner if room_of(edge[0]) != room_of(edge[1])] == []


def test_the_library_does_without_the_book():
    importers = {room_of(importer) for importer, imported in EDGES if room_of(imported) == "book"}
    assert importers <= {"book", "__init__"}  # the package names it among its modules


def public_code():
    """(file, code) of what readers copy: notebooks, README, benchmarks."""
    for path in sorted([path for pattern in PUBLIC for path in ROOT.glob(pattern)]):
        text = path.read_text()
        if path.suffix == ".ipynb":
            text = "\n".join(cell.source for cell in nbformat.reads(text, as_version=4).cells)
        yield path.relative_to(ROOT).as_posix(), text


@pytest.mark.parametrize("name, text", public_code(), ids=lambda value: value[:40])
def test_what_readers_copy_uses_public_names(name, text):
    private = re.findall(r"(?:from|import) scaleinv[\w.]*\._\w+|from scaleinv(?:\.\w+)* import _\w+", text)
    assert bool(private) == (name in PRIVATE_IMPORTS), private


def lines_of_code(code):
    """The number of lines that are neither blank nor part of a docstring."""
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            docstring = node.body[0]
            lines[docstring.lineno - 1 : docstring.end_lineno] = [""] * (docstring.end_lineno - docstring.lineno + 1)
    return sum(bool(line.strip()) for line in lines)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_documented_short_and_looks_at_no_frames(name):
    code = MODULES[name].read_text()
    assert ast.get_docstring(ast.parse(code)) or name == "scaleinv.__main__"
    assert lines_of_code(code) <= LONGEST
    assert "_getframe" not in code
