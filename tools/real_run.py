"""Record the training of chapter 12 in scaleinv/book/real_run.npz: half an hour on a quiet core, less on a GPU.

    python tools/real_run.py [FOLDER]

FOLDER, by default _build/real_run, holds what it needs to go on: whenever it is stopped, the same command goes on from
at most a minute before.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "scaleinv" / "book" / "real_run.npz"
sys.path.insert(0, str(ROOT))

from scaleinv import Recorder, effective_parameters, rescale, sharpness  # noqa: E402
from scaleinv.book import real_run  # noqa: E402
from scaleinv.book.data import device  # noqa: E402
from scaleinv.book.real_run import Settings, Step, Text  # noqa: E402

EVERY = 10  # steps between two looks at the tensors
VALIDATED_EVERY = 100
SNAPSHOTS = (100, 400, 1000, 2000)  # steps after which weights and v are kept
SAVED_EVERY = 30.0  # seconds
PRODUCTS = 12  # Hessian-vector products for an eigenvalue
LARGER = 8  # times the batch, for the noise of larger batches


class Run:
    """The training, as far as it has come, with what was recorded of it.

    Args:
        settings: of the run.
        folder: where it is saved; a run that was begun there goes on.
        characters: the text; by default the standard library's code.
    """

    def __init__(self, settings: Settings, folder: Path, characters=None):
        self.settings, self.folder, self.text = settings, folder, Text(settings, characters)
        self.on = device()
        self.about = real_run.about(settings, self.text, self.on)
        self.model = real_run.network(settings).to(self.on)
        self.optimizer, self.schedule = real_run.optimizer_and_schedule(self.model, settings)
        self.step = 0
        self.steps, self.looks, self.validation, self.frames = [], [], [], []
        if self.checkpoint.exists():
            self.load()

    @property
    def checkpoint(self):
        return self.folder / "checkpoint.pt"

    def load(self):
        saved = torch.load(self.checkpoint, map_location=self.on, weights_only=False)
        changed = [key for key, value in self.about.items() if saved["about"][key] != value]
        if changed:
            sys.exit(f"{self.folder} holds a run with other {', '.join(changed)}; pass another folder, or delete it")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.step = saved["step"]
        self.steps, self.looks, self.validation, self.frames = saved["recorded"]

    def save(self, recorder, start, earlier):
        self.frames = [*earlier, recorder.frame().assign(step=lambda frame: frame["step"] + start)]
        write(
            self.checkpoint,
            {
                "about": self.about,
                "step": self.step,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "recorded": (self.steps, self.looks, self.validation, self.frames),
            },
        )

    def train(self):
        """Take the steps that are left."""
        start, earlier, saved_at = self.step, self.frames, time.monotonic()
        bar = tqdm(total=self.settings.steps, initial=start, desc="training")
        with Recorder(self.model, self.optimizer, every=EVERY, keep=None) as recorder:
            while self.step < self.settings.steps:
                loss = self.one_step()
                bar.update()
                bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
                is_last = self.step == self.settings.steps
                # the recorder counts from where it began, which has to be a step at which it looks
                if is_last or (self.step % EVERY == 0 and time.monotonic() - saved_at > SAVED_EVERY):
                    self.save(recorder, start, earlier)
                    saved_at = time.monotonic()
        bar.close()

    def one_step(self):
        looks = self.step % EVERY == 0
        characters = self.text.batch(self.step).to(self.on)
        lr = self.optimizer.param_groups[0]["lr"]
        step = real_run.take_step(self.model, self.optimizer, characters, self.settings.max_norm)
        if looks:
            self.looks.append(look(self.model, self.optimizer, step, lr))
        self.schedule.step()
        self.step += 1
        self.steps.append((step.loss, step.norm, step.factor, lr))
        if self.step % VALIDATED_EVERY == 0 or self.step == 1:
            self.validation.append((self.step, self.validated()))
        if self.step in SNAPSHOTS:
            v = {name: self.optimizer.state[p]["exp_avg_sq"] for name, p in self.model.named_parameters()}
            write(self.folder / f"snapshot-{self.step}.pt", {"model": self.model.state_dict(), "v": v})
        return step.loss

    @torch.no_grad()
    def validated(self):
        """The loss on the part of the text that was held out."""
        losses = []
        for characters in self.text.held_out():
            characters = characters.to(self.on)
            logits = self.model(characters[:, :-1])
            losses.append(cross_entropy(logits, characters[:, 1:]).item())
        return sum(losses) / len(losses)

    def arrays(self):
        """What is stored."""
        frame = pd.concat(self.frames)
        names = [name for name, _ in self.model.named_parameters()]
        arrays = {"parameter: parameter": np.array(names)}
        arrays["parameter: entries"] = np.array([p.numel() for p in self.model.parameters()])
        arrays["recorded: recorded"] = frame["step"].unique()
        for column in ("parameter_rms", "gradient_rms", "update_rms"):
            table = frame.pivot(index="step", columns="parameter", values=column)
            arrays[f"recorded parameter: {column}"] = table[names].to_numpy()
        for column in self.looks[0]:
            arrays[f"recorded parameter: {column}"] = np.array([each[column] for each in self.looks])
        arrays["step: step"] = np.arange(1, self.step + 1)
        for column, values in zip(("loss", "norm", "clip_factor", "lr"), np.array(self.steps).T):
            arrays[f"step: {column}"] = values
        at, losses = np.array(self.validation).T
        arrays |= {"validated: validated": at.astype(int), "validated: validation_loss": losses}
        return {key: rounded(array) for key, array in arrays.items()}


@torch.no_grad()
def look(model, optimizer, step: Step, lr: float) -> dict[str, list[float]]:
    """What the step that was just taken is made of, for each parameter.  With D = √v̂ + eps:

    - adam_rms: RMS of m̂/D, the step without decay, in lr;
    - power, signal, lagged: mean of g²/D², of g₁·g₂/D² for the two half batches, and of m̂·g/D² with m̂ of the step
      before: 1 for noise of constant size; the signal's share of it; and what later gradients repeat;
    - eps_share, eps_entries: mean of eps/D, and the share of entries where it is above 1 %;
    - along: mean of w·m̂/D, unit W: how far the step shortens w, besides decay;
    - agreement: mean of g₁·g₂, an estimate of the squared signal without noise, unit L²·W⁻².
    """
    columns = {}
    for p, first in zip(model.parameters(), step.first):
        first.mul_(step.factor)
        group = next(group for group in optimizer.param_groups if any(p is q for q in group["params"]))
        for name, value in quantities(p, first, optimizer.state[p], group, lr).items():
            columns.setdefault(name, []).append(value)
    return {name: torch.stack(values).tolist() for name, values in columns.items()}


def quantities(p, first, state, group, lr):
    """``look`` for one parameter."""
    beta1, beta2 = group["betas"]
    t, m, g = int(state["step"]), state["exp_avg"], p.grad
    root = (state["exp_avg_sq"] / (1 - beta2**t)).sqrt_()
    share = group["eps"] / (root + group["eps"])
    inverse = 1 / (root + group["eps"])
    u, a, b = m * inverse / (1 - beta1**t), first * inverse, g * inverse
    before = (m * inverse - (1 - beta1) * b) / beta1 / max(1 - beta1 ** (t - 1), 1 - beta1)
    w = (p + lr * u) / (1 - lr * group["weight_decay"])
    return {
        "adam_rms": u.square().mean().sqrt(),
        "power": b.square().mean(),
        "signal": (a * (2 * b - a)).mean(),
        "lagged": (before * b).mean(),
        "eps_share": share.mean(),
        "eps_entries": (share > 0.01).float().mean(),
        "along": (w * u).mean(),
        "agreement": (first * (2 * g - first)).mean(),
    }


class Afterwards:
    """What is measured at the snapshots of a run that has ended; each result is kept in the folder.

    Args:
        run: that has ended.
    """

    def __init__(self, run: Run):
        self.run, self.settings = run, run.settings
        self.model = real_run.network(self.settings).to(run.on)
        self.optimizer, _ = real_run.optimizer_and_schedule(self.model, self.settings)
        self.start = [p.detach().clone() for p in self.model.parameters()]
        self.names = [name for name, _ in self.model.named_parameters()]

    def arrays(self):
        """What is stored."""
        steps = [step for step in SNAPSHOTS if step <= self.settings.steps]
        results = [self.at(step) for step in tqdm(steps, desc="snapshots")]
        arrays = {"snapshot: snapshot": np.array(steps)}
        for name in results[0]:
            dims = "snapshot parameter" if isinstance(results[0][name], list) else "snapshot"
            arrays[f"{dims}: {name}"] = np.array([result[name] for result in results])
        return {key: rounded(array) for key, array in arrays.items()}

    def at(self, step):
        """What was measured after that step; measured now if it was not yet."""
        path = self.run.folder / f"after-{step}.json"
        if not path.exists():
            self.go_to(step)
            result = self.moved() | self.curvature() | self.noise()
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(result))
            os.replace(partial, path)
        return json.loads(path.read_text())

    def go_to(self, step):
        """Weights, √v and lr as they are before the step that follows."""
        saved = torch.load(self.run.folder / f"snapshot-{step}.pt", map_location=self.run.on)
        self.model.load_state_dict(saved["model"])
        for name, p in self.model.named_parameters():
            moments = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": saved["v"][name]}
            self.optimizer.state[p] = {"step": torch.tensor(float(step)), **moments}
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * self.settings.multiplier(step)

    @torch.no_grad()
    def moved(self):
        """RMS of the whole way from the start, of each parameter, and of the embeddings of characters without use."""
        ways = [(p - start).square().mean().sqrt() for p, start in zip(self.model.parameters(), self.start)]
        unused = self.model.token.weight[self.run.text.unused().to(self.run.on)]
        return {"moved": torch.stack(ways).tolist(), "unused_rms": unused.square().mean().sqrt().item()}

    def curvature(self):
        """lr·λ_max(P⁻¹H) on a batch that no step saw, on a quarter of it, and for the blocks' matrices alone."""
        whole = self.sharpness(self.optimizer, self.settings.size)
        return {
            "threshold": whole.threshold,
            "sharpness": whole.lr_sharpness,
            "sharpness_error": whole.lr_error,
            "sharpness_quarter": self.sharpness(self.optimizer, self.settings.size // 4).lr_sharpness,
            "sharpness_blocks": self.sharpness(self.of_blocks(), self.settings.size).lr_sharpness,
        }

    def sharpness(self, optimizer, size):
        characters = self.run.text.batch(self.settings.steps)[:size].to(self.run.on)

        def loss():
            # attention's fast kernels have no second derivative
            with sdpa_kernel(SDPBackend.MATH):
                return cross_entropy(self.model(characters[:, :-1]), characters[:, 1:])

        return sharpness(self.model, loss, optimizer, accuracy=0.02, products=PRODUCTS)

    def of_blocks(self):
        """The same optimizer, of the blocks' matrices alone."""
        group = self.optimizer.param_groups[0]
        matrices = [p for p in self.model.blocks.parameters() if p.ndim == 2]
        optimizer = torch.optim.AdamW([{**group, "params": matrices}])
        optimizer.state.update({p: self.optimizer.state[p] for p in matrices})
        return optimizer

    def noise(self):
        """The signal's share at LARGER times the batch, from two batches of that size that no step saw."""
        large = [self.gradient(1 + i * LARGER) for i in range(2)]
        shares = []
        for p, a, b in zip(self.model.parameters(), *large):
            group = next(group for group in self.optimizer.param_groups if any(p is q for q in group["params"]))
            state = self.optimizer.state[p]
            root = (state["exp_avg_sq"] / (1 - group["betas"][1] ** state["step"].item())).sqrt() + group["eps"]
            a, b = a / root, b / root
            shares.append((a * b).mean() / ((a * a + b * b) / 2).mean())
        return {"large_signal": torch.stack(shares).tolist()}

    def gradient(self, first):
        """Of each parameter, over LARGER batches."""
        self.model.zero_grad()
        for i in range(LARGER):
            characters = self.run.text.batch(self.settings.steps + first + i).to(self.run.on)
            (cross_entropy(self.model(characters[:, :-1]), characters[:, 1:]) / LARGER).backward()
        return [p.grad.clone() for p in self.model.parameters()]


def in_other_units(run: Run, weight: float = 2.0**6, loss: float = 2.0**-10, steps: int = 100):
    """The first steps again, with parameters and a loss of other units: how many losses and weights come out different.

    After ``steps`` steps there has to be a snapshot.
    """
    model = real_run.network(run.settings).to(run.on)
    optimizer, schedule = real_run.optimizer_and_schedule(model, run.settings)
    rescale(model, optimizer, weight=weight, loss=loss)
    max_norm = run.settings.max_norm * loss / weight
    losses = []
    for step in tqdm(range(steps), desc="in other units"):
        characters = run.text.batch(step).to(run.on)
        losses.append(real_run.take_step(model, optimizer, characters, max_norm, loss=loss).loss)
        schedule.step()
    before = torch.load(run.folder / f"snapshot-{steps}.pt", map_location=run.on)["model"]
    after = effective_parameters(model)
    other_losses = sum(a != b[0] for a, b in zip(losses, run.steps))
    other_weights = sum((after[name] != w).sum().item() for name, w in before.items())
    return {
        "weight": weight,
        "loss": loss,
        "steps": steps,
        "losses that differ": other_losses,
        "weights that differ": other_weights,
    }


def rounded(array):
    """To float32 of four significant digits, which take little room when packed."""
    if array.dtype.kind != "f":
        return array
    mantissa, exponent = np.frexp(array)
    return np.ldexp(np.round(mantissa * 2**14) / 2**14, exponent).astype(np.float32)


def write(path, content):
    """Save so that the file is there whole, or as it was."""
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def main(folder, stored=STORED, settings=Settings(), characters=None):  # noqa: B008 (frozen)
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(settings, folder, characters)
    print(f"{run.about}, from step {run.step}")
    run.train()
    about = run.about | {"pairs_loss": run.text.pairs_loss(), "other_units": in_other_units(run)}
    arrays = run.arrays() | Afterwards(run).arrays() | {"about": np.array(json.dumps(about))}
    with (partial := stored.with_suffix(".partial")).open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(partial, stored)
    print(f"{stored}: {stored.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "_build" / "real_run")
