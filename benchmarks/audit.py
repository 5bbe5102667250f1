"""How long an audit takes, and what it copies: GPT-2's size, with AdamW's state and gradients, on the CPU.

Aim: under two seconds for 100 million parameters, and no copy beyond one tensor.
"""

import time
from pathlib import Path

import torch

from scaleinv import audit
from scaleinv.book import models

STEPS = 5


def resident(line: str) -> float:
    """MiB of this process, on Linux: VmRSS, what it has now, or VmHWM, the most since the peak was reset."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{line}:")[2].split()[0]) / 1024


def main() -> None:
    model = models.gpt(width=816, depth=12, heads=12, length=1024)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for p in model.parameters():
        p.grad = 1e-3 * torch.randn_like(p)
    optimizer.step()
    audit(model, optimizer)  # warms up imports and allocations
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident("VmRSS")
    parameters = list(model.parameters())
    print(
        f"{sum(p.numel() for p in parameters) / 1e6:.1f} million parameters, {len(parameters)} tensors, AdamW, float32"
    )
    largest = max(p.numel() * p.element_size() for p in parameters) / 2**20
    for case in ("state and gradients", "state", "nothing but the parameters"):
        if case == "state":
            optimizer.zero_grad()
        if case.startswith("nothing"):
            optimizer.state.clear()
        times = []
        for _ in range(STEPS):
            start = time.perf_counter()
            audit(model, optimizer, max_norm=1.0)
            times.append(time.perf_counter() - start)
        print(f"with {case}: median of {STEPS} {sorted(times)[STEPS // 2]:.2f} s, {torch.get_num_threads()} threads")
    print(f"memory: {resident('VmHWM') - before:.0f} MiB more at most; the largest tensor has {largest:.0f} MiB")


if __name__ == "__main__":
    main()
