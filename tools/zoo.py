"""Audit every training of tests/library/zoo, and store what the audit says in scaleinv/book/zoo.json.

    python tools/zoo.py                     # all of them; two minutes
    python tools/zoo.py gpt2 dead_relu      # all findings of these, stage by stage, printed and not stored

The packages that it needs are those of the extra "zoo".
"""

import json
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
STORED = ROOT / "scaleinv" / "book" / "zoo.json"
PACKAGES = ("accelerate", "diffusers", "lion-pytorch", "peft", "prodigyopt", "schedulefree", "torch", "transformers")

os.environ["HF_HUB_OFFLINE"] = "1"  # every model is made from its configuration
sys.path.insert(0, str(ROOT))


def measure_healthy(setup):
    """One line of the stored result."""
    from tests.library.zoo import zoo

    alarms, stages, _ = zoo.alarms_of(setup)
    return {
        "name": setup.name,
        "about": about(setup),
        "stages": stages,
        "alarms": [
            {"stage": stage, "kind": finding.kind, "severity": finding.severity.word, "text": finding.text}
            for stage, finding in zoo.untrue(setup, alarms)
        ],
        "true": dict(setup.true_alarms),
    }


def measure_fault(setup):
    """One line of the stored result."""
    from tests.library.zoo import zoo

    finding = zoo.naming(setup)
    return {
        "name": setup.name,
        "about": about(setup),
        "found": finding is not None,
        "kind": finding.kind if finding else "",
        "severity": finding.severity.word if finding else "",
        "finding": finding.text if finding else "",
        "remedy": finding.remedy if finding else "",
    }


def about(setup):
    """Its docstring, in one line."""
    return " ".join(setup.make.__doc__.split())


def show(setup):
    """All findings of a training, stage by stage."""
    from tests.library.zoo import zoo

    training = zoo.made(setup)
    print(f"{setup.name}: {about(setup)}")
    for stage in training.stages():
        print(f"  {stage}")
        for finding in zoo.audited(training).findings:
            print(f"    {finding.severity.word}, {finding.kind}: {finding.text}")
            print(f"      {len(finding.parameters)} parameters: {', '.join(finding.parameters)[:200]}")


def main(names):
    import torch

    from tests.library.zoo import everything, zoo  # noqa: F401

    torch.set_num_threads(1)
    if unknown := [name for name in names if name not in zoo.HEALTHY | zoo.FAULTS]:
        sys.exit(f"not in the zoo: {', '.join(unknown)}; it has {', '.join(zoo.HEALTHY | zoo.FAULTS)}")
    if names:
        for name in names:
            show((zoo.HEALTHY | zoo.FAULTS)[name])
        return
    result = {
        "versions": {name: version(name) for name in PACKAGES},
        "healthy": [measure_healthy(setup) for setup in zoo.HEALTHY.values()],
        "faults": [measure_fault(setup) for setup in zoo.FAULTS.values()],
    }
    STORED.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    from scaleinv.book import zoo as stored

    print(stored.summary())


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(sys.argv[1:])
