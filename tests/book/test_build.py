"""``make book``, on a copy of the project with a book of two pages: it names what stops it, and keeps the last book."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".*", "_build", "tests", "benchmarks", "*.ipynb", "*.egg-info", "__pycache__")
TOC = "format: jb-book\nroot: book/intro\nchapters:\n  - file: book/page\n"
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def write_page(project, code):
    cells = [nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), project / "book" / "page.ipynb")


def start(project, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment["TMPDIR"] = str(project.parent)
    return subprocess.Popen(
        ["make", "PYTHON=true", *arguments, "book"],  # the environment exists: a link
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def make(project, *arguments):
    """Exit code, stdout, and stderr without colours."""
    process = start(project, *arguments)
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, re.sub(r"\x1b\[[\d;]*m", "", stderr)


def contents(project):
    html = project / "_build" / "html"
    return {path.relative_to(html): path.read_bytes() for path in html.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A project whose book has been built, and the output of make."""
    project = tmp_path_factory.mktemp("build") / "a project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (project / ".venv").symlink_to(sys.prefix)
    (project / "_toc.yml").write_text(TOC)
    (project / "book" / "intro.md").write_text("# A small book\n\nSee {doc}`page`.\n")
    write_page(project, "print(6 * 7, 'the first')")
    return project, make(project)


@pytest.fixture
def project(first, tmp_path):
    return Path(shutil.copytree(first[0], tmp_path / "a project", symlinks=True))


def test_a_complete_book_is_built_and_its_path_printed(first):
    project, (code, stdout, stderr) = first
    assert code == 0 and stderr == "", stderr  # kernels don't warn either
    index = project / "_build" / "html" / "index.html"
    assert stdout.splitlines()[-1] == f"The book: file://{index}" and index.exists()
    assert "42 the first" in (project / "_build" / "html" / "book" / "page.html").read_text()
    assert os.listdir(project / "_build") == ["html"]


def test_a_cell_that_raises_fails_the_build_and_is_named_and_the_last_book_stays(project):
    before = contents(project)
    write_page(project, "raise ValueError('quite ' + 'wrong')")
    code, stdout, stderr = make(project)
    assert code != 0 and "The book:" not in stdout
    assert "page.ipynb" in stderr and "ValueError: quite wrong" in stderr
    assert contents(project) == before


def test_warnings_fail_the_build_and_are_all_named_and_the_last_book_stays(project):
    before = contents(project)
    write_page(project, "import sys\nprint('a caution', file=sys.stderr)")
    (project / "book" / "intro.md").write_text("# A small book\n\nSee {doc}`page` and {doc}`nowhere`.\n")
    code, stdout, stderr = make(project)
    assert code != 0 and "The book:" not in stdout
    assert re.search("page.ipynb.*stderr was found", stderr)
    assert re.search("intro.md.*unknown document: 'nowhere'", stderr)
    assert contents(project) == before


def test_after_a_killed_build_the_last_book_is_there_and_the_next_build_cleans_up(project, tmp_path):
    before, reached = contents(project), tmp_path / "reached"
    write_page(
        project,
        f"import pathlib, time\nreached = pathlib.Path({str(reached)!r})\n"
        "if not reached.exists():\n    reached.touch()\n    time.sleep(120)\nprint(6 * 8, 'the second')",
    )
    process = start(project)
    deadline = time.time() + 60
    while not reached.exists():
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert contents(project) == before
    assert len(list((project / "_build").glob("new.*"))) == 1

    code, stdout, stderr = make(project)
    assert code == 0, stderr
    assert "48 the second" in (project / "_build" / "html" / "book" / "page.html").read_text()
    assert os.listdir(project / "_build") == ["html"]


def test_if_the_builder_writes_no_book_the_last_one_stays(project):
    before = contents(project)
    (project / ".venv").unlink()
    (project / ".venv" / "bin").mkdir(parents=True)
    builder = project / ".venv" / "bin" / "jupyter-book"
    builder.write_text("#!/bin/sh\nexit 0\n")
    builder.chmod(0o755)
    code, stdout, _ = make(project)
    assert code != 0 and "The book:" not in stdout
    assert contents(project) == before


def test_without_an_environment_nothing_is_built(project):
    before = contents(project)
    code, stdout, _ = make(project, "PYTHON=false")
    assert code != 0 and stdout == ""
    assert contents(project) == before
