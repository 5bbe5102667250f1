"""Optimizers that are called in another way, as factories that infer_units can call, and what some need to be given."""

import inspect

import torch


def factory_like(cls):
    """Give a factory the name and the signature of the class whose instances it makes."""

    def decorate(factory):
        factory.__signature__ = inspect.signature(cls)
        factory.__name__ = cls.__name__
        return factory

    return decorate


def with_muon_groups(cls):
    """Put matrices into a group with use_muon=True, the other parameters into one with False."""

    @factory_like(cls)
    def factory(params, **hyperparameters):
        return cls(muon_groups(params), **hyperparameters)

    return factory


def muon_groups(params):
    groups = [{"params": [p for p in params if (p.ndim > 1) is muon], "use_muon": muon} for muon in (True, False)]
    return [group for group in groups if group["params"]]


def with_aux_adam(cls):
    """Put what the optimizer takes in groups only into the groups for Muon and for Adam."""

    def factory(params, lr=0.02, weight_decay=0.0, momentum=0.95, betas=(0.9, 0.95), eps=1e-10):
        groups = muon_groups(params)
        for group in groups:
            group |= {"lr": lr, "weight_decay": weight_decay}
            group |= {"momentum": momentum} if group["use_muon"] else {"betas": betas, "eps": eps}
        return cls(groups)

    factory.__name__ = cls.__name__
    return factory


def with_muon_params(cls):
    """Pass the matrices first, as what is orthogonalised, then the other parameters."""
    parameters = list(inspect.signature(cls).parameters.values())

    def factory(params, **hyperparameters):
        params = list(params)
        return cls([p for p in params if p.ndim > 1], [p for p in params if p.ndim < 2], **hyperparameters)

    factory.__name__ = cls.__name__
    factory.__signature__ = inspect.Signature(parameters[1:])
    return factory


def with_low_rank(cls):
    """Put matrices into a group whose gradient is projected to rank 2."""

    @factory_like(cls)
    def factory(params, **hyperparameters):
        projected = {"rank": 2, "update_proj_gap": 3, "scale": 0.25, "proj_type": "std"}
        groups = [
            {"params": [p for p in params if p.ndim == 2]} | projected,
            {"params": [p for p in params if p.ndim != 2]},
        ]
        return cls([group for group in groups if group["params"]], **hyperparameters)

    return factory


def with_closure(cls):
    """Require the closure that ``step`` declares optional."""

    class Optimizer(cls):
        def step(self, closure):
            return super().step(closure)

    Optimizer.__name__ = cls.__name__
    return Optimizer


def with_gradients(cls):
    """Set gradients before the first step; the closure that ``step`` calls computes them again."""

    @factory_like(cls)
    def factory(params, **hyperparameters):
        for p in params:
            p.grad = torch.zeros_like(p)
        return cls(params, **hyperparameters)

    return factory


def with_fused_backward(cls):
    """Make ``fused_backward(loss, lr)`` the step."""

    @factory_like(cls)
    def factory(model, lr=1e-3, **hyperparameters):
        inner = cls(model, lr=lr, **hyperparameters)

        def step(closure):
            loss = closure()
            for p in model.parameters():
                p.grad = None
            inner.fused_backward(loss, lr)

        inner.step = step
        return inner

    return factory


def around_sgd(cls):
    """Wrap SGD in an optimizer that wraps another."""

    def factory(params, lr=0.1, **hyperparameters):
        return cls(torch.optim.SGD(params, lr=lr), **hyperparameters)

    factory.__name__ = cls.__name__
    return factory


def with_process_group(make):
    """Run what ``make`` returns in a process group of one process."""

    def wrapped(cls):
        inner = make(cls)

        @factory_like(inner)
        def factory(params, **hyperparameters):
            if not torch.distributed.is_initialized():
                store = torch.distributed.HashStore()
                torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
            return inner(params, **hyperparameters)

        return factory

    return wrapped


# (module, name) → hyperparameters other than the defaults, and the factory that calls it.
HYPERPARAMETERS = {
    ("pytorch_optimizer", "AdaGC"): {"warmup_steps": 4},
    ("came_pytorch", "CAME"): {"lr": 1e-3},
    ("pytorch_optimizer", "ASGD"): {"maximize": True},
    ("pytorch_optimizer", "BSAM"): {"num_data": 10},
    ("pytorch_optimizer", "Magma"): {"lr": 1e-3, "weight_decay": 0.01, "eps": 1e-8},
    ("pytorch_optimizer", "PID"): {"momentum": 0.9},
    ("pytorch_optimizer", "QHM"): {"momentum": 0.9, "nu": 0.7},
    ("pytorch_optimizer", "Ranger21"): {"num_iterations": 200},
    ("pytorch_optimizer", "SaRA"): {"lr": 1e-3, "threshold": 1.0},
    ("pytorch_optimizer", "ScheduleFreeAdamW"): {"warmup_steps": 5},
    ("pytorch_optimizer", "ScheduleFreeSGD"): {"warmup_steps": 5},
    ("pytorch_optimizer", "SophiaH"): {"p": 10.0, "update_period": 1},
    ("torch_optimizer", "Lookahead"): {"lr": 0.1, "alpha": 0.5},
    ("timm.optim", "AdafactorBigVision"): {"lr": 1e-3},
    ("prodigyplus", "ProdigyPlusScheduleFree"): {"d0": 1e-2},
    ("timm.optim", "Lookahead"): {"lr": 0.1, "alpha": 0.5},
    ("timm.optim", "Lars"): {"lr": 0.1, "momentum": 0.9},
    ("timm.optim", "SGDP"): {"lr": 0.1, "momentum": 0.9},
    ("adamp", "SGDP"): {"lr": 0.1, "momentum": 0.9},
    ("composer.optim", "DecoupledSGDW"): {"lr": 0.1, "momentum": 0.9},
    **{("bitsandbytes.optim", f"SGD{bits}"): {"lr": 0.1, "momentum": 0.9} for bits in ("", "8bit")},
    **{("bitsandbytes.optim", f"LARS{bits}"): {"lr": 0.1, "momentum": 0.9} for bits in ("", "8bit")},
    ("bitsandbytes.optim", "PytorchLARS"): {"lr": 0.1, "momentum": 0.9},
    **{("optimi", name): {"lr": 1e-3} for name in "Adam AdamW Adan Lion RAdam Ranger SGD StableAdamW".split()},
    # Variants: with a flag that changes what weight_decay is multiplied by.
    **{
        ("optimi", f"{name}(decouple_lr)"): {"lr": 1e-3, "weight_decay": 1e-5, "decouple_lr": True}
        for name in ("AdamW", "Lion", "SGD", "StableAdamW")
    },
}
FACTORIES = {
    **{("pytorch_optimizer", name): with_muon_groups for name in ("AdaGO", "AdaMuon", "Muon", "MuonClip", "NorMuon")},
    **{("pytorch_optimizer", name): with_closure for name in ("EmoFact", "EmoLynx", "EmoNavi")},
    **{("pytorch_optimizer", name): with_fused_backward for name in ("LOMO", "AdaLOMO")},
    ("pytorch_optimizer", "BSAM"): with_gradients,
    ("torch_optimizer", "Lookahead"): around_sgd,
    ("timm.optim", "Lookahead"): around_sgd,
    ("muon", "Muon"): with_process_group(lambda cls: cls),
    ("muon", "MuonWithAuxAdam"): with_process_group(with_aux_adam),
    ("muon", "SingleDeviceMuonWithAuxAdam"): with_aux_adam,
    ("adam_atan2_pytorch", "MuonAdamAtan2"): with_muon_params,
    ("adam_atan2_pytorch", "PolarAdamAtan2"): with_muon_params,
    **{("lomo_optim", name): with_fused_backward for name in ("Lomo", "AdaLomo")},
    **{("galore_torch", f"GaLore{name}"): with_low_rank for name in ("AdamW", "AdamW8bit", "Adafactor")},
    **{("q_galore_torch", f"QGaLoreAdamW8bit{name}"): with_low_rank for name in ("", "_simulate")},
    ("pytorch_optimizer", "DistributedMuon"): with_process_group(with_muon_groups),
    ("pytorch_optimizer", "DeMo"): with_process_group(lambda cls: cls),
}
