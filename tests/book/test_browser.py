"""``make browser-test`` fails, and says why, if it cannot test. Its checks have their own tests in the tool."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "browser"


@pytest.fixture
def book(tmp_path):
    (tmp_path / "index.html").write_text("<title>A book</title>")
    return tmp_path


def run(folder, **environment):
    return subprocess.run([sys.executable, TOOL, folder], env=environment, capture_output=True, text=True)


def test_without_a_browser_it_fails_and_names_what_to_install(book, tmp_path):
    done = run(book, PATH=str(tmp_path))
    assert done.returncode == 2 and done.stdout == ""
    assert "nothing is done" in done.stderr and "apt-get install chromium" in done.stderr


def test_without_a_book_it_fails_and_says_how_to_make_one(tmp_path):
    done = run(tmp_path, PATH=str(tmp_path))
    assert done.returncode == 2 and "make book" in done.stderr
