"""Optimizers as training frameworks hand them out, around those of torch."""

from accelerate import Accelerator
from lightning.fabric import Fabric
from torch import nn, optim

from tests.library.zoo.healthy.language import llama_model, next_token
from tests.library.zoo.healthy.plain import classified, mlp
from tests.library.zoo.optimizers import adam, adamw
from tests.library.zoo.training import Training, linear, warm_up_and_cosine
from tests.library.zoo.zoo import healthy


@healthy
def accelerated():
    """Model and optimizer as Accelerate prepares them."""
    model = mlp(32, 64, 64, 10)
    model, optimizer = Accelerator(cpu=True).prepare(model, adam(model))
    return Training(model, optimizer, classified(model))


@healthy
def accelerated_llama():
    """Llama under Accelerate, with groups, clipping, warm-up and cosine."""
    model = llama_model()
    model, optimizer = Accelerator(cpu=True).prepare(model, adamw(model, 1e-3))
    return Training(model, optimizer, next_token(model), 1.0, warm_up_and_cosine)


@healthy
def fabric():
    """Model and optimizer as Lightning's Fabric sets them up."""
    model = mlp(32, 64, 64, 10, activation=nn.SiLU)
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    model, optimizer = Fabric(accelerator="cpu", devices=1).setup(model, optimizer)
    return Training(model, optimizer, classified(model), schedule=linear)
