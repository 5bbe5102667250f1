"""The cost of Recorder: two runs of the same training, one recorded, step by step in turn.

Three models of 400 tensors on the CPU, with AdamW: a transformer, in which tensors are as long as they are in practice,
and two stacks of small layers, in which a step is hardly more than 400 small calls.  The aim is under 5 % of a step.

Steps take turns, and the order of the two runs alternates, so that whatever else the machine does falls on both.  Times
are CPU seconds of one thread: a busy machine stretches them less.  The recorder does all of its work in
``optimizer.step()``, so that the difference of two of these is its cost.
"""

import statistics
import time
from functools import partial

import torch
from torch import nn

from scaleinv.recorder import Recorder

STEPS = 30


def transformer():
    block = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(block, 33, enable_nested_tensor=False), torch.randn(8, 64, 128)


def stack(width, batch):
    layers = [layer for _ in range(200) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers), torch.randn(batch, width)


MODELS = {
    "transformer, width 128": transformer,
    "200 layers of width 64": partial(stack, 64, 64),
    "200 layers of width 16": partial(stack, 16, 32),
}


def seconds(model, optimizer, inputs):
    """CPU seconds of a whole step, and of optimizer.step() within it."""
    start = time.process_time()
    optimizer.zero_grad()
    model(inputs).square().mean().backward()
    middle = time.process_time()
    optimizer.step()
    end = time.process_time()
    return end - start, end - middle


def cost(make, every):
    """(tensors, parameters, seconds of a step, seconds that the recorder adds to one)."""
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        model, inputs = make()
        runs.append((model, torch.optim.AdamW(model.parameters(), lr=1e-4), inputs))
    plain, recorded = runs
    whole, added = [], []
    with Recorder(*recorded[:2], every=every):
        for step in range(STEPS + 2):
            order = (plain, recorded) if step % 2 else (recorded, plain)
            times = {id(run): seconds(*run) for run in order}
            if step > 1:
                whole.append(times[id(plain)][0])
                added.append(times[id(recorded)][1] - times[id(plain)][1])
    sizes = [p.numel() for p in plain[0].parameters()]
    average = statistics.mean if every > 1 else statistics.median  # of steps that cost something and steps that do not
    return len(sizes), sum(sizes), statistics.median(whole), average(added)


def main():
    torch.set_num_threads(1)
    print(f"AdamW on one thread of the CPU; {STEPS} steps each, in turn")
    for name, make in MODELS.items():
        for every in (1, 10):
            tensors, parameters, step, added = cost(make, every)
            print(
                f"{name:24} {tensors} tensors, {parameters / 1e6:5.2f} million parameters, every={every:<2}: "
                f"a step {1e3 * step:6.1f} ms, Recorder {1e3 * added:5.2f} ms, {100 * added / step:5.1f} %"
            )


if __name__ == "__main__":
    main()
