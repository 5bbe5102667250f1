"""How large the next step is, by the law of the optimizer: from lr, and where it takes them the RMS of the parameter
or of the gradient.  Without weight decay; all in the units of the parameter as the optimizer holds it.

A first step is exact.  Later ones are those under noise, gradients without mean or memory, of which a step of Adam
is 0.23·lr at β₁ = 0.9 (``laws.update_rms``); a gradient that lasts makes steps of up to lr.
"""

import math

from torch import optim

from scaleinv.laws import update_rms


def predicted_step(optimizer_class, group, *, shape, step, rms, gradient_rms):
    """RMS of the next step, and the law that says so, in words.

    Args:
        optimizer_class: of ``torch.optim``; no law is known of others.
        group: its hyperparameters.
        shape: of the parameter.
        step: how many steps were taken.
        rms, gradient_rms: of the parameter and its gradient (NaN where there is none).

    Returns:
        (RMS, unit W; words), or (NaN, why there is none).
    """
    law = LAWS.get(optimizer_class)
    if law is None:
        return math.nan, f"no law is known of {optimizer_class.__name__}'s steps"
    return law(group, shape=shape, step=step, rms=rms, gradient_rms=gradient_rms)


def _adam(group, *, step, **_):
    lr = float(group["lr"])
    if step == 0:
        return lr, "first step: lr·sign(g)"
    beta1, beta2 = map(float, group["betas"])
    factor = update_rms(beta1, beta2 if beta2 >= 0.8 else 1.0).item()
    return factor * lr, f"under noise: {factor:.2g}·lr"


def _sgd(group, *, step, gradient_rms, **_):
    """b ← μ·b + (1 − d)·g, and b = g at first; a step is lr·b, with Nesterov's momentum lr·(g + μ·b)."""
    lr, momentum, kept = float(group["lr"]), group["momentum"], 1 - group["dampening"]
    if math.isnan(gradient_rms):
        return math.nan, "lr·g: needs gradients"
    if momentum == 0 or step == 0:
        factor = 1 + momentum if momentum and group["nesterov"] else 1
        return lr * gradient_rms * factor, "lr·g" if factor == 1 else "first step: (1 + momentum)·lr·g"
    latest = 1 + momentum if group["nesterov"] else kept  # weights of the gradients at lag 0, 1, 2, …
    second = momentum**2 if group["nesterov"] else kept * momentum
    factor = math.sqrt(latest**2 + second**2 / (1 - momentum**2)) if momentum < 1 else math.nan
    return lr * gradient_rms * factor, f"under noise: {factor:.2g}·lr·g"


def _asgd(group, *, gradient_rms, **_):
    return float(group["lr"]) * gradient_rms, "lr·g" if gradient_rms == gradient_rms else "lr·g: needs gradients"


def _rmsprop(group, *, step, **_):
    """v = (1 − α)·g² at first, without bias correction."""
    lr = float(group["lr"])
    if step == 0:
        return lr / math.sqrt(1 - group["alpha"]), "first step: lr/√(1−alpha)"
    factor = 1 / math.sqrt(1 - group["momentum"] ** 2)
    return factor * lr, f"under noise: {factor:.2g}·lr"


def _adagrad(group, *, step, **_):
    """The sum of t squares is t times their mean."""
    lr = float(group["lr"]) / (1 + step * group["lr_decay"])
    return lr / math.sqrt(step + 1), f"under noise: lr/√{step + 1}" if step else "first step: lr·sign(g)"


def _adafactor(group, *, step, rms, **_):
    """min(lr, 1/√t) of the parameter's RMS, or of eps[1] where that is more; what it multiplies has the RMS 1."""
    share = min(float(group["lr"]), 1 / math.sqrt(step + 1))
    return share * max(group["eps"][1], rms), f"relative: {share:.2g}·RMS"


def _muon(group, *, shape, **_):
    """An orthogonal matrix (rows, columns) has the RMS 1/√max(rows, columns); Newton and Schulz come near to one."""
    rows, columns = shape[:2]
    if group.get("adjust_lr_fn") == "match_rms_adamw":
        return 0.2 * float(group["lr"]), "orthogonal: 0.2·lr"
    lr = float(group["lr"]) * math.sqrt(max(1, rows / columns))
    return lr / math.sqrt(max(rows, columns)), "orthogonal: lr·√max(1, rows/columns)/√max(rows, columns)"


def _first(group, *, step, **_):
    if step == 0:
        return float(group["lr"]), "first step: lr·sign(g)"
    return math.nan, "no law but for the first step"


LAWS = {
    optim.Adam: _adam, optim.AdamW: _adam, optim.SparseAdam: _adam, optim.Adamax: _first, optim.Rprop: _first,
    optim.SGD: _sgd, optim.ASGD: _asgd, optim.RMSprop: _rmsprop, optim.Adagrad: _adagrad,
    optim.Adafactor: _adafactor, optim.Muon: _muon,
}  # fmt: skip
