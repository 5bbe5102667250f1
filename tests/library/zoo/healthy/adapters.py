"""Adapters of peft on frozen models: few parameters, many of which start at zero."""

from functools import cache

import peft
import torch
from peft.optimizers import create_loraplus_optimizer
from torch import optim

from tests.library.zoo import data
from tests.library.zoo.healthy.diffusion import conditional_unet_model, denoising
from tests.library.zoo.healthy.language import llama_model, next_token
from tests.library.zoo.optimizers import adamw, trainable
from tests.library.zoo.training import Training, linear, warm_up_and_cosine
from tests.library.zoo.zoo import healthy

PROJECTIONS = ["q_proj", "v_proj"]


def lora_config(**options):
    return peft.LoraConfig(**dict(r=4, lora_alpha=32, target_modules=PROJECTIONS, task_type="CAUSAL_LM") | options)


@cache
def pretrained(key_value_heads):
    """The parameters of a Llama that has learned a language, other than the one that adapters are to learn."""
    with torch.random.fork_rng():
        model = llama_model(num_key_value_heads=key_value_heads)
        loss, optimizer = next_token(model, data.tokens(seed=7)), adamw(model, 3e-3)
        for step in range(40):
            loss(step).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.state_dict()


def base(key_value_heads=2):
    model = llama_model(num_key_value_heads=key_value_heads)
    model.load_state_dict(pretrained(key_value_heads))
    return model


def adapted(config, model=None):
    """Llama under an adapter; only the adapter is trained."""
    return peft.get_peft_model(model or base(), config)


def fine_tuned(model, lr=2e-4, schedule=linear, **options):
    optimizer = optim.AdamW(trainable(model), lr=lr, weight_decay=0.0)
    return Training(model, optimizer, next_token(model), max_norm=0.3, schedule=schedule, **options)


@healthy
def lora():
    """LoRA: A is random, B is zero, so A has no gradient in the first step, and B's relative step no meaning."""
    return fine_tuned(adapted(lora_config()))


@healthy
def lora_on_all():
    """LoRA on every linear layer, with dropout, rank-stabilized, and a decay of 0.01."""
    model = adapted(lora_config(target_modules="all-linear", lora_dropout=0.05, use_rslora=True))
    optimizer = optim.AdamW(trainable(model), lr=1e-3, weight_decay=0.01)
    return Training(model, optimizer, next_token(model), 1.0, warm_up_and_cosine)


@healthy
def lora_plus():
    """LoRA+: B learns 16 times as fast as A, on purpose."""
    model = adapted(lora_config())
    optimizer = create_loraplus_optimizer(model, optim.AdamW, lr=2e-4, loraplus_lr_ratio=16, weight_decay=0.0)
    return Training(model, optimizer, next_token(model), 1.0, warm_up_and_cosine)


@healthy
def lora_bfloat16_base():
    """A base frozen in bfloat16 under adapters in float32, as QLoRA computes."""
    model = adapted(lora_config(), base().bfloat16())
    for p in trainable(model):
        p.data = p.data.float()
    return fine_tuned(model, 1e-3, autocast=torch.bfloat16)


@healthy
def dora():
    """DoRA: LoRA and a magnitude for each output, which starts at the norm of the frozen weight."""
    return fine_tuned(adapted(lora_config(use_dora=True)), 1e-3)


@healthy
def pissa():
    """PiSSA: A and B start as the largest singular directions of the frozen weight."""
    return fine_tuned(adapted(lora_config(init_lora_weights="pissa")), 1e-3)


@healthy
def ia3():
    """(IA)³: vectors that multiply activations, from 1, with a large lr."""
    config = peft.IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
    )
    return fine_tuned(adapted(config), 3e-3)


@healthy
def vera():
    """VeRA: random matrices that are shared and frozen, and two vectors that are trained: one of them from zero."""
    config = peft.VeraConfig(r=8, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    return fine_tuned(adapted(config, base(4)), 4e-3)


@healthy
def prompt_tuning():
    """Eight virtual tokens before the text."""
    config = peft.PromptTuningConfig(num_virtual_tokens=8, task_type="CAUSAL_LM")
    return fine_tuned(adapted(config), 3e-2)


@healthy
def unet_lora():
    """LoRA on the attention of Stable Diffusion's UNet, as diffusers' script makes it."""
    model = conditional_unet_model().requires_grad_(False)
    config = peft.LoraConfig(
        r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=["to_k", "to_q", "to_v", "to_out.0"]
    )
    model.add_adapter(config)
    text = torch.randn(8, 4, 16, generator=torch.Generator().manual_seed(3))
    optimizer = optim.AdamW(trainable(model), lr=1e-3, weight_decay=1e-2)
    loss = denoising(lambda noisy, time: model(noisy, time, encoder_hidden_states=text).sample)
    return Training(model, optimizer, loss, max_norm=1.0)
