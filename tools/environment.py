"""Make .venv if it is missing or stale; return at once if it is ready.

The stamp .venv/ready holds a digest of what the environment was made from.  It is removed first and written last: if
the set-up is interrupted at any point, the next call starts it again.  pip inherits the lock: after `kill -9` of make,
an orphaned pip still holds it, and the next call waits for it instead of writing to the same folder.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

SOURCES = ("requirements.txt", "requirements-no-deps.txt", "constraints.txt", "pyproject.toml")
VENV = ("-m", "venv", "--clear", ".venv")
PIP = ("-m", "pip", "install", "-qq", "--disable-pip-version-check")
INSTALLS = ((*PIP, "-r", "requirements.txt"), (*PIP, "--no-deps", "-r", "requirements-no-deps.txt"))


def digest(root):
    parts = [sys.version.encode(), os.fsencode(root)]  # a moved environment does not work
    parts += [(root / name).read_bytes() for name in SOURCES if (root / name).exists()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_ready(root):
    try:
        stamp = (root / ".venv" / "ready").read_text()
    except OSError:
        return False
    return stamp == digest(root) and (root / ".venv" / "bin" / "python").exists()


def make(root, installs=INSTALLS, venv=VENV):
    """Make ``root``/.venv if necessary, and return the exit code: 0 if it is ready."""
    if is_ready(root):
        return 0
    with open(root / ".venv.lock", "w") as lock:
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another set-up of .venv", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(root):
            return 0
        print("setting up .venv (a few minutes, once)", flush=True)
        folder = root / ".venv"
        if folder.is_symlink():
            folder.unlink()  # its target belongs to another checkout
        (folder / "ready").unlink(missing_ok=True)
        made_from = digest(root)
        python = str(folder / "bin" / "python")
        for command in ([sys.executable, *venv], *([python, *install] for install in installs)):
            code = subprocess.run(command, cwd=root, close_fds=False).returncode
            if code:
                print(f"set-up failed: {' '.join(command)} returned {code}", file=sys.stderr)
                return code
        partial = folder / "ready.partial"
        partial.write_text(made_from)
        partial.replace(folder / "ready")
    return 0


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 (older versions run this file too)
        sys.exit(f"scaleinv needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11")
    sys.exit(make(Path(__file__).resolve().parent.parent))
