"""tools/environment.py makes .venv when it has to, and only then; the next call recovers from any interruption.

A command that writes a line to root/log stands in for pip; venv installs pip only for the tests that look for it.
"""

import ast
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "environment.py"
CALL = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import environment
sys.exit(environment.make(Path(sys.argv[2]), *json.loads(sys.argv[3])))
"""
START = "import os, pathlib, signal, time\nlog = open('log', 'a', buffering=1)\n"
QUICK = ("-c", START + "log.write('installed\\n')")
SLOW = (
    "-c",
    START
    + "pathlib.Path('.venv/half').touch()\n"
    + "log.write('begun\\n')\n"
    + "deadline = time.time() + 60\n"
    + "while not os.path.exists('go') and time.time() < deadline: time.sleep(0.01)\n"
    + "log.write('ended\\n')",
)

spec = importlib.util.spec_from_file_location("environment", TOOL)
environment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(environment)

BARE = (*environment.VENV, "--without-pip")


class Call:
    """make(root, [install], venv) in a process and a process group of its own."""

    def __init__(self, root, install=QUICK, venv=BARE, python=sys.executable):
        self.output = root.parent / f"output{time.time_ns()}"  # a file: a pipe would wait for orphans
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                [python, "-c", CALL, TOOL.parent, root, json.dumps([[install], venv])],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def printed(self):
        return self.output.read_text()

    def code(self):
        return self.process.wait(timeout=60)

    def kill(self, group):
        (os.killpg if group else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait()


def wait_until(condition):
    deadline = time.time() + 30
    while not condition():
        assert time.time() < deadline
        time.sleep(0.01)


def log(root):
    return (root / "log").read_text().split() if (root / "log").exists() else []


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "a project"
    root.mkdir()
    for name in environment.SOURCES:
        (root / name).write_text(f"# {name}\n")
    return root


@pytest.fixture
def ready(root):
    assert Call(root).code() == 0
    assert log(root) == ["installed"]
    return root


def test_the_environment_of_a_fresh_checkout_has_pip(root):
    (root / "tools").mkdir()
    shutil.copy(TOOL, root / "tools")
    done = subprocess.run([sys.executable, root / "tools" / "environment.py"], capture_output=True, text=True)
    assert done.returncode == 0 and "setting up .venv" in done.stdout
    assert subprocess.run([root / ".venv" / "bin" / "python", "-m", "pip", "--version"]).returncode == 0
    assert environment.is_ready(root)


def test_a_ready_environment_is_left_alone_silently(ready):
    with open(ready / ".venv.lock", "w") as lock:  # it doesn't wait for the lock either
        fcntl.flock(lock, fcntl.LOCK_EX)
        call = Call(ready)
        assert call.code() == 0 and call.printed() == ""
    assert log(ready) == ["installed"]


@pytest.mark.parametrize("name", environment.SOURCES)
@pytest.mark.parametrize("change", ["edited", "removed"])
def test_the_environment_is_made_again_when_what_it_was_made_from_changes(ready, name, change):
    (ready / name).unlink() if change == "removed" else (ready / name).write_text("# another line\n")
    (ready / ".venv" / "old").touch()
    assert Call(ready).code() == 0
    assert log(ready) == ["installed"] * 2 and not (ready / ".venv" / "old").exists()
    assert Call(ready).code() == 0
    assert log(ready) == ["installed"] * 2


def test_the_environment_is_made_again_when_the_folder_moves(ready):
    moved = ready.rename(ready.with_name("moved"))
    assert Call(moved).code() == 0
    assert log(moved) == ["installed"] * 2


def test_the_environment_is_made_again_when_its_python_is_gone(ready):
    python = ready / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("no such interpreter")
    assert Call(ready).code() == 0
    assert log(ready) == ["installed"] * 2


def test_another_python_needs_another_environment(ready, monkeypatch):
    assert environment.is_ready(ready)
    monkeypatch.setattr(sys, "version", "3.99.0")
    assert not environment.is_ready(ready)


def test_the_environment_can_be_made_again_from_within(ready):
    (ready / "requirements.txt").write_text("# another line\n")
    assert Call(ready, python=ready / ".venv" / "bin" / "python").code() == 0
    assert log(ready) == ["installed"] * 2
    assert subprocess.run([ready / ".venv" / "bin" / "python", "-c", ""]).returncode == 0


def test_the_next_call_installs_requirements_that_were_edited_during_the_installation(root):
    edits = ("-c", QUICK[1] + "\nopen('requirements.txt', 'a').write('# another line')")
    assert Call(root, edits).code() == 0
    assert not environment.is_ready(root)
    assert Call(root).code() == 0
    assert environment.is_ready(root) and log(root) == ["installed"] * 2


def test_a_link_to_the_environment_of_another_checkout_is_replaced_and_its_target_left_alone(ready, tmp_path):
    checkout = tmp_path / "another checkout"
    checkout.mkdir()
    (checkout / ".venv").symlink_to(ready / ".venv")
    assert Call(checkout).code() == 0
    assert log(checkout) == ["installed"] and not (checkout / ".venv").is_symlink()
    assert environment.is_ready(checkout) and environment.is_ready(ready)


@pytest.mark.parametrize("fails", ["venv", "install"])
def test_a_failed_set_up_is_reported_and_the_next_call_repeats_it(root, fails):
    call = Call(root, **{fails: ("-c", "raise SystemExit(3)")})
    assert call.code() == 3
    assert "set-up failed" in call.printed() and "returned 3" in call.printed()
    assert Call(root).code() == 0
    assert log(root) == ["installed"]


def test_a_set_up_that_fails_after_a_successful_one_is_repeated_too(ready):
    before = (ready / "requirements.txt").read_text()
    (ready / "requirements.txt").write_text("# another line\n")
    assert Call(ready, venv=("-c", "raise SystemExit(3)")).code() == 3
    (ready / "requirements.txt").write_text(before)
    assert Call(ready).code() == 0
    assert log(ready) == ["installed"] * 2


# Killed.

alone_or_group = pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])


@alone_or_group
def test_killed_while_the_environment_is_created(root, group):
    call = Call(root, venv=environment.VENV)
    wait_until((root / ".venv" / "pyvenv.cfg").exists)
    call.kill(group)
    assert not environment.is_ready(root)
    assert Call(root).code() == 0
    assert environment.is_ready(root) and log(root) == ["installed"]


def test_killed_with_its_group_while_it_installs(root):
    call = Call(root, SLOW)
    wait_until(lambda: log(root) == ["begun"])
    call.kill(group=True)
    assert Call(root).code() == 0
    assert environment.is_ready(root) and log(root) == ["begun", "installed"]
    assert not (root / ".venv" / "half").exists()


def test_killed_alone_while_it_installs_the_next_call_waits_for_the_orphaned_installer(root):
    call = Call(root, SLOW)
    wait_until(lambda: log(root) == ["begun"])
    call.kill(group=False)
    after = Call(root)
    wait_until(lambda: "waiting" in after.printed())
    assert log(root) == ["begun"] and (root / ".venv" / "half").exists()
    (root / "go").touch()
    assert after.code() == 0
    assert environment.is_ready(root) and log(root) == ["begun", "ended", "installed"]
    assert not (root / ".venv" / "half").exists()


@alone_or_group
def test_killed_between_the_end_of_the_installation_and_the_stamp(root, group):
    kill = "os.killpg(os.getpgid(0), signal.SIGKILL)" if group else "os.kill(os.getppid(), signal.SIGKILL)"
    assert Call(root, ("-c", QUICK[1] + "\n" + kill)).code() == -signal.SIGKILL
    assert log(root) == ["installed"] and not environment.is_ready(root)
    assert Call(root).code() == 0
    assert environment.is_ready(root) and log(root) == ["installed"] * 2


def test_a_partial_stamp_does_not_count(ready):
    (ready / ".venv" / "ready").rename(ready / ".venv" / "ready.partial")
    assert Call(ready).code() == 0
    assert log(ready) == ["installed"] * 2


def test_an_old_stamp_does_not_outlive_the_start_of_a_set_up(ready):
    """Killed while the old folder is being cleared, and the requirements are then put back as they were."""
    before = (ready / "requirements.txt").read_text()
    (ready / "requirements.txt").write_text("# another line\n")
    call = Call(ready, venv=("-c", "import time; open('clearing', 'w'); time.sleep(60)"))
    wait_until((ready / "clearing").exists)
    call.kill(group=True)
    (ready / "requirements.txt").write_text(before)
    assert not environment.is_ready(ready)


def test_of_two_calls_at_once_one_installs_and_the_other_waits(root):
    first = Call(root, SLOW)
    wait_until(lambda: log(root) == ["begun"])
    second = Call(root, SLOW)
    wait_until(lambda: "waiting" in second.printed())
    (root / "go").touch()
    assert (first.code(), second.code()) == (0, 0)
    assert log(root) == ["begun", "ended"]


# An old Python.


def test_a_python_older_than_3_11_gets_a_helpful_error(root):
    (root / "tools").mkdir()
    tool = shutil.copy(TOOL, root / "tools")
    pretend = (
        "import runpy, sys; sys.version_info = (3, 10, 13, 'final', 0); sys.version = '3.10.13 (main)'; "
        f"runpy.run_path({str(tool)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True)
    assert done.returncode == 1 and not (root / ".venv").exists()
    assert "3.11 or newer" in done.stderr and "3.10.13" in done.stderr and "make PYTHON=" in done.stderr


def test_an_old_python_can_parse_the_tool():
    ast.parse(TOOL.read_text(), feature_version=(3, 7))
