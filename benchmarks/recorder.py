"""The cost of Recorder: two runs of a transformer of ten million parameters, one recorded, step by step in turn.

A small GPT (six layers of width 384) on batches of 8 × 128 characters, AdamW, on the CPU.  The aim is under 5 % of a
step.  The recorder costs a few per cent of a step, and a step's time scatters as much; so ``optimizer.step()``, in
which the recorder does all of its work, is compared by itself too.
"""

import time

import torch
from torch import nn
from torch.nn import functional

from scaleinv.recorder import Recorder

BATCH, LENGTH, CHARACTERS = 8, 128, 65
STEPS = 15


class GPT(nn.Module):
    def __init__(self, width=384, heads=6, layers=6):
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, width)
        self.position = nn.Embedding(LENGTH, width)
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.out = nn.Linear(width, CHARACTERS, bias=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, text):
        x = self.embed(text) + self.position.weight
        return self.out(self.blocks(x, mask=self.mask, is_causal=True))


def seconds(model, optimizer, text):
    """Seconds of a whole step, and of optimizer.step() within it."""
    start = time.perf_counter()
    optimizer.zero_grad()
    functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten()).backward()
    middle = time.perf_counter()
    optimizer.step()
    end = time.perf_counter()
    return end - start, end - middle


def main():
    torch.manual_seed(0)
    text = torch.randint(CHARACTERS, (BATCH, LENGTH + 1))
    runs = []
    for _ in range(2):
        model = GPT()
        runs.append((model, torch.optim.AdamW(model.parameters(), lr=3e-4)))
    with Recorder(*runs[1]):
        for run in runs:
            seconds(*run, text)
        times = [[seconds(*run, text) for run in runs] for _ in range(STEPS)]
    (whole, own), (recorded, recorded_own) = torch.tensor(times).median(dim=0).values.tolist()
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"transformer of {parameters:.1f} million parameters, {BATCH} × {LENGTH} characters, AdamW, on the CPU")
    print(f"{torch.get_num_threads()} threads; medians of {STEPS} steps each, in turn, in ms")
    print(f"whole step:      {1e3 * whole:7.1f}, with Recorder {1e3 * recorded:7.1f}: ratio {recorded / whole:.3f}")
    print(f"optimizer.step:  {1e3 * own:7.1f}, with Recorder {1e3 * recorded_own:7.1f}")
    print(f"Recorder's share of a step: {100 * (recorded_own - own) / whole:.1f} % (aim: under 5 %)")


if __name__ == "__main__":
    main()
