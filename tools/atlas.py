"""Measure units and symmetries of every optimizer of several packages, and store them in scaleinv/atlas/atlas.json.

    python tools/atlas.py                     # all of them; what is stored of packages that are not installed stays
    python tools/atlas.py MADGRAD optimi      # these, or all of a package, printed and not stored

``scaleinv.infer_units`` and ``symmetries_of`` do the same for all of them. ``atlas_packages`` lists the packages, and
``atlas_calls`` what some optimizers need beyond their defaults, and how some have to be called.
"""

import contextlib
import inspect
import io
import json
import re
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.append(str(Path(__file__).parent))
from atlas_calls import FACTORIES, HYPERPARAMETERS
from atlas_packages import PACKAGES, class_of, is_installed, optimizers_of

import scaleinv
from scaleinv import atlas
from scaleinv._infer import measured_decay

ATLAS = atlas.FOLDER / "atlas.json"


def all_optimizers():
    """(module, name) of every optimizer of the packages; of those that are not installed, the stored ones."""
    stored = [(line["module"], line["name"]) for line in atlas.lines().values()]
    return [
        (module, name)
        for module in PACKAGES
        for name in (optimizers_of(module) if is_installed(module) else [n for m, n in stored if m == module])
    ]


def measure(module, name):
    """One line of the atlas: what was measured, or why it could not be, as plain numbers and strings."""
    cls = class_of(module, name)
    hyperparameters = HYPERPARAMETERS.get((module, name), {})
    line = {"module": module, "name": name, "given": hyperparameters, "symmetry": {}}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            factory = FACTORIES[module, name](cls) if (module, name) in FACTORIES else cls
            line["symmetry"] = symmetry(factory, hyperparameters)
            result = scaleinv.infer_units(factory, hyperparameters)
        except Exception as error:
            reason = re.sub(r" at 0x\w+", "", f"{type(error).__name__}: {error}")
            return line | {"floats": [], "verdict": "not run", "reason": reason}
    return line | {
        "floats": list(result.hyperparameters),
        "verdict": result.verdict,
        "residual": float(f"{result.residual:.1e}"),
        "degree": None if result.degree is None else str(result.degree),
        "lr": exponents(result.hyperparameters.get("lr") or result.nearby.get("lr")),
        "units": {key: str(unit) for key, unit in result.entries() if unit is not None},
        "nearby": {key: str(unit) for key, unit in result.nearby.items()},
        "undetermined": list(result.undetermined),
        "inconsistent": {key: float(f"{residual:.1e}") for key, residual in result.inconsistent.items()},
        "not_for": {kind: float(f"{residual:.1e}") for kind, residual in result.not_for.items()},
        "suspect": result.suspect,
        "decay": result.decay,
        "fixed_decay": fixed_decay(factory, hyperparameters),
        "reason": result.reason,
    }


def fixed_decay(factory, hyperparameters):
    """How weight_decay acts with the flag fixed_decay, None without one."""
    names = inspect.signature(factory).parameters
    flags = {name: True for name in ("weight_decouple", "fixed_decay") if name in names}
    if "fixed_decay" not in flags:
        return None
    try:
        return measured_decay(factory, hyperparameters | flags)
    except ValueError:  # it does not run with them
        return ""


def symmetry(factory, hyperparameters):
    """The result of ``symmetries_of``, or why it could not run."""
    try:
        result = scaleinv.symmetries_of(factory, hyperparameters).as_dict()
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {error}"}
    shares = {
        kind: {part: float(f"{share:.1e}") for part, share in result[kind].items()} for kind in ("scaled", "rotated")
    }
    return {"scales": result["scales"], "rotations": result["rotations"], **shares}


def exponents(unit):
    return None if unit is None else [str(unit.loss), str(unit.weight)]


def main(names):
    torch.set_num_threads(1)
    keys = [key for key in all_optimizers() if not names or set(key) & set(names)]
    here = [key for key in keys if is_installed(key[0])]
    with ProcessPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        measured = dict(zip(here, tqdm(pool.map(measure, *zip(*here)), total=len(here), disable=None)))
    if names:
        print(json.dumps(list(measured.values()), ensure_ascii=False, indent=1))
        return
    stored = atlas.lines()
    lines = [measured.get(key) or stored[".".join(key)] for key in keys]
    versions = {m: version(name) if is_installed(m) else atlas.versions()[m] for m, name in PACKAGES.items()}
    ATLAS.write_text(json.dumps({"versions": versions, "optimizers": lines}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
