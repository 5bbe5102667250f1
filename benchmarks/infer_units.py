"""Time infer_units on every optimizer of torch.optim: the median of three runs each, on one core."""

import statistics
import time

import pandas as pd
import torch

from scaleinv import UNITS, infer_units

RUNS = 3


def measured(optimizer_class: type) -> dict:
    """The median time of a measurement with the default hyperparameters, after one run to warm up, and its verdict."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        units = infer_units(optimizer_class)
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times[1:]), "verdict": units.verdict}


def main() -> None:
    torch.set_num_threads(1)
    table = pd.DataFrame.from_dict({cls.__name__: measured(cls) for cls in UNITS}, orient="index")
    print(f"infer_units, one core, median of {RUNS} runs, torch {torch.__version__}")
    print(table.to_string(float_format="{:.2f}".format))
    print(f"sum {table['seconds'].sum():.2f} s")


if __name__ == "__main__":
    main()
