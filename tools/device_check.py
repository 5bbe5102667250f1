"""Run the library, three chapters and the benchmarks on this machine's GPU, or on its CPU if it has none.

    python tools/device_check.py                       # all parts, in less than eight minutes
    python tools/device_check.py tests "chapter 3"     # some of them
    python tools/device_check.py --patience 3          # on a slow or a busy machine: three times as long
    python tools/device_check.py --table               # only the README's table

Results go to benchmarks/results/, in a file for each device, part by part as they come: when the machine is taken
away, only the part that ran then is lost.  Each part is a process of its own with a limit of time; one that fails is
reported, the others run, and the script ends with the status 1.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
RESULTS, README = ROOT / "benchmarks" / "results", ROOT / "README.md"
LOGS = ROOT / "_build" / "device-check"
TABLE = re.compile(r"(?<=<!-- devices -->\n).*?(?=<!-- end of devices -->)", re.DOTALL)
SECONDS = 470  # of all parts together
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib -q"]
LIMITS = {  # seconds of each part, the most important first
    "tests": 90,
    "sweep": 60,
    "audit": 40,
    "graphs": 40,
    "chapter 3": 70,
    "chapter 4": 70,
    "chapter 1": 100,
    "compile": 45,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"which to run: {', '.join(LIMITS)}; all by default")
    parser.add_argument("--patience", type=float, default=1.0, help="how many times as long each part may take")
    parser.add_argument("--table", action="store_true", help="run nothing; write the README's table")
    options = parser.parse_args()
    if unknown := set(options.parts) - LIMITS.keys():
        parser.error(f"no such parts: {', '.join(sorted(unknown))}; there are {', '.join(LIMITS)}")
    failed = [] if options.table else check(options.parts or list(LIMITS), options.patience)
    write_table()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def check(parts, patience, folder=RESULTS):
    """Run the parts; the names of those that failed."""
    document = machine() | {"parts": {name: {"state": "not run"} for name in parts}}
    path, begin = folder / f"{document['slug']}.json", time.monotonic()
    print(f"{document['device']}, torch {document['torch']}: {path}", flush=True)
    for name in parts:
        left = patience * SECONDS - (time.monotonic() - begin)
        limit = min(patience * LIMITS[name], left)
        document["parts"][name] = {"state": "running"}
        write(path, document)
        document["parts"][name] = run(name, limit, document["kind"])
        document["load_average"]["at the end"] = load()
        write(path, document)
        part = document["parts"][name]
        print(f"{name}: {part['state']} after {part['seconds']:.0f} s", part.get("message", ""), flush=True)
    return [name for name in parts if document["parts"][name]["state"] != "passed"]


def machine():
    """What the results depend on."""
    import torch

    gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if gpu else processor()
    return {
        "device": name,
        "slug": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        "kind": "cuda" if gpu else "cpu",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpu else None,
        "driver": driver() if gpu else None,
        "python": sys.version.split()[0],
        "date": date.today().isoformat(),
        "load_average": {"at the start": load()},
    }


def processor():
    with suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if found:
            return f"{found[1].strip()} ({os.cpu_count()} cores)"
    return f"CPU ({os.cpu_count()} cores)"


def driver():
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split("\n")[0].strip() or None
    return None


def load():
    """How many processes wanted a core, on average over a minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def command_of(name, kind):
    if name == "tests":
        return [*PYTEST, "--device", kind, f"--junitxml={LOGS / 'tests.xml'}", str(ROOT / "tests/library/device")]
    if name.startswith("chapter"):
        (notebook,) = (ROOT / "book").glob(f"{name.split()[1]}_*.ipynb")
        return [sys.executable, str(ROOT / "tools/device_parts.py"), "chapter", notebook.stem]
    return [sys.executable, str(ROOT / "tools/device_parts.py"), name]


def run(name, limit, kind):
    """A part in a process of its own: its state, seconds, result, and a message if it did not pass."""
    if limit <= 0:
        return {"state": "not run", "seconds": 0.0, "message": "no time was left"}
    LOGS.mkdir(parents=True, exist_ok=True)
    log, begin = LOGS / f"{name.replace(' ', '-')}.log", time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1"}
    with open(log, "w") as file:
        process = subprocess.Popen(
            command_of(name, kind), stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    part = {"state": "timed out" if code is None else "passed", "seconds": round(time.monotonic() - begin, 1)}
    return part | outcome(name, code, log.read_text(errors="replace"))


def outcome(name, code, output):
    """What a part that has ended says of itself: its result, and its failures if there are any."""
    tail = {"message": output[-1500:].strip()}
    if code is None:
        return tail
    if name == "tests":
        result = outcome_of_tests() if (LOGS / "tests.xml").exists() else {}
    else:
        lines = output.strip().splitlines()
        result = json.loads(lines[-1]) if code == 0 else {}
    failures = result.pop("failures", [])
    if code == 0 and not failures:
        return {"result": result}
    return {"state": "failed", "result": result} | ({"message": failures} if failures else tail)


def outcome_of_tests():
    """Numbers of tests, and for each that failed its name and message."""
    root = ElementTree.parse(LOGS / "tests.xml").getroot()
    (LOGS / "tests.xml").unlink()
    cases = list(root.iter("testcase"))
    failed = [(case, each) for case in cases for each in case if each.tag in ("failure", "error")]
    skipped = sum(each.tag == "skipped" for case in cases for each in case)
    messages = [f"{case.get('name')}: {each.get('message')}"[:500] for case, each in failed]
    return {
        "passed": len(cases) - len(failed) - skipped, "failed": len(failed), "skipped": skipped, "failures": messages
    }  # fmt: skip


def write(path, document):
    """The whole file or, if this process ends meanwhile, the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    os.replace(partial, path)


# The README's table


def table(documents):
    """Markdown: a row for each device."""
    head = ["device", "torch", "tests", "claims", "loop", "sweep", "rule", "audit", "load", "date"]
    rows = [head, ["---", *["---:"] * (len(head) - 2), "---"]] + [row_of(each) for each in documents]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def row_of(document):
    parts = document["parts"]
    results = {name: part.get("result") or {} for name, part in parts.items()}
    chapters = [each for name, each in results.items() if name.startswith("chapter") and each]
    rates = results.get("sweep", {}).get("trainings_per_second", {})
    seconds = results.get("audit", {}).get("state and gradients", {}).get("seconds")
    return [
        document["device"],
        document["torch"],
        share(results.get("tests"), "passed", "failed"),
        f"{sum(each['held'] for each in chapters)} of {sum(each['claims'] for each in chapters)}" if chapters else "–",
        *(f"{rates[name]:.0f}/s" if name in rates else "–" for name in ("loop", "torch.optim.Adam", "optimizers.adam")),
        f"{seconds:.2g} s" if seconds else "–",
        f"{document['load_average']['at the start']:.0f} of {document['cores']}",
        document["date"],
    ]


def share(result, good, bad):
    return f"{result[good]} of {result[good] + result[bad]}" if result else "–"


def stored(folder=RESULTS):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def write_table():
    text = README.read_text()
    README.write_text(TABLE.sub(lambda _: f"\n{table(stored())}\n", text))


if __name__ == "__main__":
    main()
