"""Draw the picture shown in place of the explorer where no scripts run: in JupyterLab, or in a browser without them.

.venv/bin/python tools/explorer.py      writes book/_static/explorer.png
"""

import sys
from pathlib import Path

import torch

from scaleinv import optimizers
from scaleinv.book.plots import COLOURS, INK, panels

PICTURE = Path(__file__).resolve().parent.parent / "book" / "_static" / "explorer.png"

# The explorer's problem: y = (w'₁x₁ + w'₂x₂)/k, L = ½ Σ curvature·(w'/k − minimum)².
CURVATURE, MINIMUM, START = (torch.tensor(x, dtype=torch.float64) for x in ([0.5, 6.0], [3.0, 1.0], [0.5, 3.0]))
STEPS = 100


def train(rule, k, **hyperparameters):
    """The stored parameters w', shape (STEPS + 1, 2), float64: at the start and after every step.

    Args:
        rule: a factory of ``scaleinv.optimizers``.
        k: the factor by which w' is larger than the w of the function.
        hyperparameters: of the rule.
    """
    optimizer, params = rule(**hyperparameters), {"w": START * k}
    state, path = optimizer.init(params), [params["w"]]
    for _ in range(STEPS):
        grads = {"w": CURVATURE * (params["w"] / k - MINIMUM) / k}
        updates, state = optimizer.update(grads, state, params)
        params = optimizers.apply_updates(params, updates)
        path.append(params["w"])
    return torch.stack(path)


def loss(w):
    """The loss of the function with parameters w, shape (…, 2)."""
    return (CURVATURE * (w - MINIMUM).square()).sum(-1) / 2


def draw():
    """A figure of Adam at k = 1 and lr = 0.1, and at k = 8 with 8 times this lr and with the same lr."""
    cases = ((1.0, 0.1), (8.0, 0.8), (8.0, 0.1))
    runs = {(k, lr): train(optimizers.adam, k, lr=lr, eps=1e-8 / k) for k, lr in cases}
    styles = (
        {"color": COLOURS["Adam"], "lw": 7, "alpha": 0.35},
        {"color": COLOURS["Adam"], "lw": 1.8, "marker": "o", "ms": 3},
        {"color": INK, "lw": 2.6, "ls": (0, (2, 1)), "marker": "o", "ms": 9, "markevery": [-1]},
    )
    labels = {
        "the function: w′/k": ("w′₁/k (W)", "w′₂/k (W)"),
        "the stored parameter: w′": ("step", "w′₁, w′₂ (W)"),
    }
    fig, axes = panels(labels, columns=2)
    function, parameter = axes.values()
    fig.set_size_inches(7.2, 3.8)
    x, y = torch.meshgrid(*(torch.linspace(low, low + 5, 200, dtype=torch.float64) for low in (0, -1)), indexing="xy")
    levels = [0.05, 0.2, 0.8, 3.2, 12.8]
    function.contour(x, y, loss(torch.stack([x, y], -1)), levels=levels, colors=INK, linewidths=0.7, alpha=0.6)
    function.plot(*MINIMUM, "+", color=INK, ms=10)
    for ((k, lr), w), style in zip(runs.items(), styles):
        function.plot(*(w / k).T, label=f"k = {k:g}, lr = {lr:g}", **style)
        parameter.plot(w, **style | {"marker": None, "markevery": None})
    function.grid(False)
    function.set(xlim=(0, 5), ylim=(-1, 4))
    parameter.set(yscale="log", xticks=[0, 50, 100])
    function.legend(loc="upper right", fontsize=11, borderaxespad=0, handlelength=1.5)
    return fig


if __name__ == "__main__":
    draw().savefig(sys.argv[1] if len(sys.argv) > 1 else PICTURE)
