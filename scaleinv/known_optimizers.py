"""What is known of each optimizer of ``torch.optim``: its units, derived by hand from its update rule.

``infer_units`` measures the same, for these optimizers and any other.
"""

from dataclasses import replace

from torch import optim

from scaleinv.units import ONE, G, L, Units, W

_MOMENTS = {"step": ONE, "exp_avg": G, "exp_avg_sq": G**2}
_AMSGRAD = {"max_exp_avg_sq": G**2}

UNITS = {
    optim.SGD: Units(
        {"lr": W / G, "momentum": ONE, "dampening": ONE, "weight_decay": G / W},
        {"momentum_buffer": G},
    ),
    optim.ASGD: Units(
        {"lr": W / G, "lambd": G / W, "alpha": ONE, "t0": ONE, "weight_decay": G / W},
        {"step": ONE, "eta": W / G, "mu": ONE, "ax": W},
    ),
    optim.Rprop: Units(
        {"lr": W, "etas": ONE, "step_sizes": W},
        {"step": ONE, "prev": G, "step_size": W},
    ),
    optim.Adagrad: Units(
        {"lr": W, "lr_decay": ONE, "eps": G, "weight_decay": G / W, "initial_accumulator_value": G**2},
        {"step": ONE, "sum": G**2},
    ),
    # momentum accumulates gradients already divided by their scale: its buffer has no unit.
    optim.RMSprop: Units(
        {"lr": W, "alpha": ONE, "eps": G, "weight_decay": G / W, "momentum": ONE},
        {"step": ONE, "square_avg": G**2, "grad_avg": G, "momentum_buffer": ONE},
    ),
    # One eps is added to square_avg (G²) and to acc_delta, and so gives acc_delta the unit G² too, where the
    # paper means W²: the update comes out in G, not W, and lr has to carry the rest, as in SGD.
    optim.Adadelta: Units(
        {"lr": W / G, "rho": ONE, "eps": G**2, "weight_decay": G / W},
        {"step": ONE, "square_avg": G**2, "acc_delta": G**2},
    ),
    optim.Adam: Units({"lr": W, "betas": ONE, "eps": G, "weight_decay": G / W}, _MOMENTS | _AMSGRAD),
    optim.AdamW: Units({"lr": W, "betas": ONE, "eps": G, "weight_decay": ONE / W}, _MOMENTS | _AMSGRAD),
    optim.SparseAdam: Units({"lr": W, "betas": ONE, "eps": G}, _MOMENTS),
    optim.Adamax: Units(
        {"lr": W, "betas": ONE, "eps": G, "weight_decay": G / W},
        {"step": ONE, "exp_avg": G, "exp_inf": G},
    ),
    optim.NAdam: Units(
        {"lr": W, "betas": ONE, "eps": G, "weight_decay": G / W, "momentum_decay": ONE},
        _MOMENTS | {"mu_product": ONE},
    ),
    optim.RAdam: Units(
        {"lr": None, "betas": ONE, "eps": G, "weight_decay": G / W},
        _MOMENTS,
        reason="RAdam takes SGD's steps, lr·exp_avg (lr: L⁻¹ W²), while its variance estimate is young "
        "(rho_t ≤ 5: the first five steps at beta2 = 0.999) and Adam's (lr: W) from then on",
    ),
    # Its step is a fraction of the parameter's own RMS: lr is a pure number.  For a matrix eps[0] also bounds
    # row_var.mean() from below, without being squared: its unit holds only while that bound is not reached.
    optim.Adafactor: Units(
        {"lr": ONE, "beta2_decay": ONE, "eps": (G, W), "d": ONE, "weight_decay": ONE},
        {"step": ONE, "row_var": G**2, "col_var": G**2, "variance": G**2},
    ),
    optim.Muon: Units(
        {"lr": W, "weight_decay": ONE / W, "momentum": ONE, "ns_coefficients": ONE, "eps": G, "ns_steps": ONE},
        {"momentum_buffer": G},
    ),
    optim.LBFGS: Units(
        {"lr": None, "max_iter": ONE, "max_eval": ONE, "tolerance_grad": G, "tolerance_change": None,
         "history_size": ONE},
        {"d": None, "t": None, "prev_flat_grad": G, "prev_loss": L, "H_diag": W / G, "n_iter": ONE,
         "func_evals": ONE, "old_dirs": G, "old_stps": W, "ro": ONE / (G * W), "al": ONE},
        reason="LBFGS starts with a step of lr·min(1, 1/‖g‖₁)·g, which compares a gradient with the number 1, "
        "goes on with steps whose lr is a pure number, and holds one tolerance_change against both a change "
        "of the parameters (W) and a change of the loss (L)",
    ),
}  # fmt: skip


def units_of(optimizer_class, hyperparameters=None):
    """The ``Units`` of an optimizer class of ``torch.optim`` (or ``Units`` themselves, as inferred).

    Args:
        optimizer_class: a class of ``torch.optim``.
        hyperparameters: settles what a flag changes: with ``decoupled_weight_decay=True``, weight_decay has AdamW's
            unit.

    Raises:
        TypeError: for something that is no class.
        ValueError: for an optimizer that is not in the table, and for a flag other than the one that the units were
            measured with.
    """
    if isinstance(optimizer_class, Units):
        for name, flag in optimizer_class.defaults.items():
            value = (hyperparameters or {}).get(name, flag)
            if name not in optimizer_class.hyperparameters and value is not flag and value != flag:
                raise ValueError(
                    f"{name}={value!r}: the units were measured with {name}={flag!r}, and hold for that; measure them "
                    "again with scaleinv.infer_units"
                )
        return optimizer_class
    if not isinstance(optimizer_class, type):
        raise TypeError(f"optimizer_class={optimizer_class!r} is not a class; pass one such as torch.optim.Adam")
    if optimizer_class not in UNITS:
        raise ValueError(
            f"optimizer_class={optimizer_class.__name__}: its units are not in scaleinv.UNITS; measure them "
            "with scaleinv.infer_units and pass the result in its place"
        )
    units = UNITS[optimizer_class]
    if (hyperparameters or {}).get("decoupled_weight_decay"):
        return replace(units, hyperparameters={**units.hyperparameters, "weight_decay": ONE / W})
    return units
