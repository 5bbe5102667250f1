"""The wheel is whole, and all of it but the book runs beside the six packages that it requires and nothing else."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "scaleinv")
BASE = {"torch", "numpy", "pandas", "rich", "tqdm", "xarray"}


def run(*command):
    """Run a command outside the project, with one thread and without the paths of this environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=Path(command[0]).parent, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )


def required(metadata: Distribution):
    """Names of the distributions that one requires here, without extras."""
    requirements = map(Requirement, metadata.requires or [])
    return {each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})}


def all_required(metadata: Distribution):
    """The distributions that one requires, those that they require, and so on."""
    names, todo = set(), required(metadata)
    while todo:
        names |= todo
        todo = set().union(*(required(distribution(name)) for name in todo)) - names
    return [distribution(name) for name in names]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network from a copy of the sources."""
    sources, made = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for path in map(ROOT.joinpath, SOURCES):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, sources / path.name)
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", made, sources)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(made.glob("*.whl"))


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        yield PathDistribution(
            next(path for path in zipfile.Path(archive).iterdir() if path.name.endswith(".dist-info"))
        )


@pytest.fixture(scope="module")
def programs(wheel, metadata, tmp_path_factory):
    """The folder of the programs of an environment that holds the wheel and, as links, what the wheel requires."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    packages = next(environment.glob("lib/python*/site-packages"))
    for needed in all_required(metadata):
        for name in {path.parts[0] for path in needed.files} - {"..", "__pycache__"}:
            (packages / name).symlink_to(needed.locate_file(name))
    python = environment / "bin" / "python"
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "-qq", "--no-index", "--no-deps", wheel)
    assert done.returncode == 0, done.stderr
    return python.parent


def modules(package):
    """Dotted names of the modules below a folder."""
    paths = [path.relative_to(package.parent).with_suffix("") for path in package.rglob("*.py")]
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def test_the_wheel_holds_every_module_the_data_and_the_marker_of_its_types(wheel):
    package = ROOT / "scaleinv"
    expected = {path for pattern in ("*.py", "*.json", "*.npz", "py.typed") for path in package.rglob(pattern)}
    assert {"atlas.json", "sources.json", "py.typed"} <= {path.name for path in expected}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {path.relative_to(ROOT).as_posix() for path in expected}


def test_six_packages_are_required_and_the_others_are_extras(metadata):
    assert required(metadata) == BASE
    assert set(metadata.metadata.get_all("Provides-Extra")) == {"atlas", "bench", "book", "plot", "test", "zoo"}


def test_the_metadata_is_complete(metadata):
    fields = metadata.metadata
    assert fields["Version"] == metadata.version and fields["Requires-Python"] == ">=3.11"
    assert fields["Description-Content-Type"] == "text/markdown"
    assert fields.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    for name in ("Summary", "Author", "Keywords", "License-Expression", "Classifier"):
        assert fields[name], name


def test_every_module_but_those_of_the_book_can_be_imported(programs):
    names = [name for name in modules(ROOT / "scaleinv") if not name.startswith(("scaleinv.book", "scaleinv.__main__"))]
    assert {"scaleinv.atlas", "scaleinv.optimizers", "scaleinv._sweep.grid"} <= set(names)
    code = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    done = run(programs / "python", "-W", "error::ImportWarning", "-c", code, *names)
    assert done.returncode == 0, done.stderr
    assert all(path.startswith(str(programs.parent)) for path in done.stdout.split())


def test_the_package_does_its_work(programs):
    code = """if True:
        import scaleinv, torch
        from scaleinv import optimizers
        model = torch.nn.Linear(4, 2)
        optimizer = torch.optim.AdamW(model.parameters())
        print(scaleinv.audit(model, optimizer).frame().shape[0], len(scaleinv.atlas.atlas()), end=" ")
        result = scaleinv.sweep(
            lambda seed: torch.nn.Linear(4, 2),
            optimizers.adam,
            lambda seed: [(torch.ones(8, 4), torch.zeros(8, dtype=torch.long))] * 3,
            {"lr": [0.1, 0.2]},
        )
        print(result.losses.sizes["lr"])
    """
    done = run(programs / "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "311", "2"]


def test_the_console_script_reports_the_version(programs, metadata):
    done = run(programs / "scaleinv", "--version")
    assert (done.returncode, done.stdout) == (0, f"scaleinv {metadata.version}\n"), done.stderr


def test_the_console_script_measures_units(programs):
    done = run(programs / "scaleinv", "units", "AdamW", "--lr", "1e-3")
    assert done.returncode == 0, done.stderr
    assert "lr" in done.stdout and "W⁻¹" in done.stdout


def test_without_its_extra_the_book_says_what_to_install(programs):
    done = run(programs / "python", "-c", "import scaleinv.book.plots")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ModuleNotFoundError: ") and "matplotlib" in last and 'pip install "scaleinv[book]"' in last
