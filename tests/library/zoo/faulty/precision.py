"""Mistakes in the formats of numbers."""

import torch
from torch import nn, optim
from torch.nn import functional

from tests.library.zoo import data
from tests.library.zoo.healthy.adapters import adapted, lora_config
from tests.library.zoo.healthy.language import llama_model, next_token
from tests.library.zoo.healthy.plain import mlp
from tests.library.zoo.optimizers import adamw, sgd, trainable
from tests.library.zoo.training import Training
from tests.library.zoo.zoo import FAULT, REMARK, WARNING, fault

ALL = ".*"


def low(model, dtype, factor=1.0):
    """The loss of a classifier in a low precision."""
    batch = data.vectors()
    return lambda n: factor * functional.cross_entropy(model(batch(n)[0].to(dtype)).float(), batch(n)[1])


@fault(kind="lost_to_rounding", words="round", severity=FAULT, stages=("before training", "after 10 steps, backward"))
def bfloat16_loses_updates():
    """All in bfloat16 at a fine-tuning lr of 1e-5: nearly every update rounds to nothing (ao#1124, Adam-mini#26)."""
    model = llama_model().bfloat16()
    return Training(model, adamw(model, 1e-5, 0.0), next_token(model))


@fault(kind="lost_to_rounding", words="round", severity=FAULT, stages=("after 10 steps, backward",))
def float16_loses_updates():
    """All in float16 under SGD at 1e-5, the same."""
    model = mlp(32, 64, 10).half()
    return Training(model, sgd(model, 1e-5), low(model, torch.float16))


@fault(kind="lost_to_rounding", words="round", severity=FAULT, parameters=r".*lora_A.*",
       stages=("after 10 steps, backward",))  # fmt: skip
def bfloat16_adapters():
    """LoRA whose adapters are bfloat16 as their base is: A's updates are lost (keras-hub#2629)."""
    model = adapted(lora_config(), llama_model()).bfloat16()
    return Training(model, optim.AdamW(trainable(model), lr=2e-5, weight_decay=0.0), next_token(model))


@fault(kind=".*decay.*round.*|lost_to_rounding", words="decay", stages=("before training", "after 10 steps, backward"))
def bfloat16_loses_decay():
    """AdamW in bfloat16: w·(1 − lr·λ) rounds to w, so decay does nothing (OneTrainer#996)."""
    model = nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10)).bfloat16()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.4},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return Training(model, optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95)), low(model, torch.bfloat16))


@fault(kind=".*eps.*|.*infinite.*", words="eps", severity=FAULT, parameters=ALL, stages=("before training",))
def eps_is_zero_in_float16():
    """Adam's eps = 1e-8 is 0 in float16: the first zero gradient makes 0/0 (pytorch#8860, glide-finetune#6)."""
    model = mlp(32, 64, 10).half()
    return Training(model, optim.Adam(model.parameters(), lr=1e-3), low(model, torch.float16))


@fault(kind=".*infinite.*|.*eps.*|not_finite", words="infinite|NaN", severity=FAULT, stages=("backward",))
def next_step_is_infinite():
    """The same when the gradients are there: v underflows to 0, and the step is m/0 (apex#240, optax#1754)."""
    model = mlp(32, 64, 10).half()
    return Training(model, optim.AdamW(model.parameters(), lr=1e-3), low(model, torch.float16, 1e-3))


@fault(kind=".*forget.*|.*memory.*|.*beta.*", words="β₂|beta2|betas", severity=WARNING,
       stages=("after 10 steps, backward",))  # fmt: skip
def state_cannot_forget():
    """β₂ = 0.999 with a state in bfloat16, where 0.999·v rounds to v, which only grows (Automodel#2248)."""
    model = llama_model().bfloat16()
    return Training(model, adamw(model, 3e-3, 0.0, betas=(0.9, 0.999)), next_token(model))


@fault(kind=".*scale.*|not_finite", words="scale", severity=REMARK, stages=("backward",))
def scale_too_large():
    """A GradScaler at 2⁴⁰: the gradients overflow, and the scaler skips step after step (apex#318)."""
    model, batch = mlp(32, 64, 10), data.vectors()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    loss = lambda n: functional.cross_entropy(model(batch(n)[0]), batch(n)[1])  # noqa: E731
    return Training(model, sgd(model, 0.1), loss, autocast=torch.float16, scaler=scaler)
