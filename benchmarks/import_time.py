"""What ``import scaleinv`` costs beyond ``import torch``, in a fresh interpreter: 0.1 s at most.

    python benchmarks/import_time.py

Names of scaleinv resolve when they are first used: a second line says what the first use of ``audit`` costs, pandas
included.  The imports take turns, so that a machine that gets slower meanwhile slows all; the differences are those of
the medians.
"""

import subprocess
import sys
from statistics import median

LIMIT = 0.1  # seconds
ROUNDS = 11
CODE = "import time; start = time.perf_counter(); import torch; {}; print(time.perf_counter() - start)"
STATEMENTS = ("pass", "import scaleinv", "import scaleinv; scaleinv.audit")


def seconds(statement: str) -> float:
    """What ``import torch`` and a statement take, in a fresh interpreter."""
    return float(subprocess.check_output([sys.executable, "-c", CODE.format(statement)]))


def main() -> None:
    for statement in STATEMENTS:  # once, to fill the file cache
        seconds(statement)
    rounds = [[seconds(statement) for statement in STATEMENTS] for _ in range(ROUNDS)]
    torch, package, audit = (median(measured) for measured in zip(*rounds))
    print(f"import torch: {torch:.3f} s; import scaleinv: {package - torch:+.3f} s (at most {LIMIT})")
    print(f"the first use of scaleinv.audit: {audit - package:+.3f} s")
    if package - torch > LIMIT:
        sys.exit(f"import scaleinv costs more than {LIMIT} s beyond import torch")


if __name__ == "__main__":
    main()
