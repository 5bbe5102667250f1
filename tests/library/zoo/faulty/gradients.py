"""Mistakes in how gradients are made, added up, scaled, clipped and reset."""

import torch
from torch import nn, optim
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tests.library.zoo import data
from tests.library.zoo.healthy.adapters import adapted, fine_tuned, lora_config
from tests.library.zoo.healthy.diffusion import Adversaries, adversaries, played
from tests.library.zoo.healthy.language import gpt2_model, llama_model, next_token
from tests.library.zoo.healthy.plain import classified, mlp
from tests.library.zoo.healthy.vision import classified as pictured
from tests.library.zoo.healthy.vision import plain_cnn
from tests.library.zoo.optimizers import adam, adamw, sgd, trainable
from tests.library.zoo.training import Training, warm_up_and_cosine
from tests.library.zoo.zoo import FAULT, REMARK, WARNING, fault

ALL = ".*"


class NeverReset(Training):
    def zero_grad(self):
        pass


@fault(kind="gradients_not_reset", words="zero_grad", parameters=ALL, severity=WARNING)
def zero_grad_forgotten():
    """zero_grad is never called: each step is along the sum of all gradients so far (DN-DETR#19, torchforge#71)."""
    model = mlp(32, 64, 64, 10)
    return NeverReset(model, adam(model), classified(model))


@fault(kind="gradients_not_reset", words="zero_grad", parameters=ALL)
def zero_grad_forgotten_in_gpt2():
    """The same in a language model under AdamW, clipping and warm-up (pytorch#47175)."""
    model = gpt2_model()
    return NeverReset(model, adamw(model, 6e-4), next_token(model), 1.0, warm_up_and_cosine)


@fault(kind="gradients_not_reset", words="zero_grad", parameters=ALL, severity=WARNING)
def zero_grad_forgotten_sgd():
    """The same under SGD with momentum, in a small convolutional network (GANalyze#7)."""
    model = plain_cnn()
    return NeverReset(model, sgd(model, 0.01), pictured(model))


class CriticNeverReset(Adversaries):
    def backward(self, step):
        before = [p.grad for p in self.model["critic"].parameters()]
        loss = super().backward(step)
        for p, gradient in zip(self.model["critic"].parameters(), before):
            if gradient is not None:
                p.grad = gradient.add_(p.grad)
        return loss

    def zero_grad(self):
        self.model["generator"].zero_grad()


@fault(kind="gradients_not_reset", words="zero_grad", parameters=r"critic\..*", severity=WARNING)
def zero_grad_of_one_player():
    """A GAN whose generator alone is reset, so the critic's gradients pile up (GANalyze#7)."""
    model = adversaries()
    critic = model["critic"]

    def losses_of(real, fake):
        wrong = functional.softplus(-critic(real)).mean() + functional.softplus(critic(fake.detach())).mean()
        return wrong, functional.softplus(-critic(fake)).mean()

    optimizers = [optim.Adam(player.parameters(), lr=1e-3, betas=(0.5, 0.999)) for player in model.values()]
    healthy = played(model, losses_of, optimizers)
    return CriticNeverReset(model, optimizers, healthy.loss, evaluate=healthy.evaluate)


@fault(
    kind="all_move_far|summed_loss|diverges",
    words="sum|mean|average",
    severity=WARNING,
    stages=("backward", "after 10 steps, backward"),
)
def loss_summed():
    """The loss is a sum over a batch of 256, so SGD's steps are 256 times as long (yolov7#1713, jax#3113)."""
    model, batch = mlp(32, 64, 64, 10), data.vectors(size=256)
    return Training(
        model, sgd(model, 0.1, momentum=0.0),
        lambda number: functional.cross_entropy(model(batch(number)[0]), batch(number)[1], reduction="sum"),
    )  # fmt: skip


@fault(kind="clipping.*|summed_loss", words="sum|mean|average", severity=REMARK, stages=("backward",))
def loss_summed_and_clipped():
    """The same under clipping at 1, which hides it: every step is clipped (NakedTensor#5)."""
    model, batch = mlp(32, 64, 64, 10), data.vectors(size=256)
    return Training(
        model, sgd(model, 0.1),
        lambda number: functional.cross_entropy(model(batch(number)[0]), batch(number)[1], reduction="sum"),
        max_norm=1.0,
    )  # fmt: skip


class Undivided(Training):
    def backward(self, step):
        for part in range(self.accumulate):
            loss = self.loss(step * self.accumulate + part)
            loss.backward()
        return loss.item()


@fault(
    kind="all_move_far|summed_loss|moves_unlike_the_rest",
    words="accumulat|sum",
    stages=("backward", "after 10 steps, backward"),
)
def accumulated_and_not_divided():
    """64 batches are accumulated and their loss is not divided by 64 (transformers#37766, fastai#3023)."""
    model = mlp(32, 64, 64, 10)
    return Undivided(model, sgd(model, 0.2, momentum=0.0), classified(model), accumulate=64)


class Encoded(nn.Module):
    """An encoder whose features are detached before the head."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = mlp(32, 64, 64), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.encoder(x).detach())


@fault(kind="no_gradient", words="no gradient", parameters=r"encoder\..*", stages=("backward",))
def detached():
    """A detach between encoder and head, left over from debugging (speechbrain#1396)."""
    model = Encoded()
    return Training(model, adam(model), classified(model))


class Checkpointed(nn.Module):
    """Adapters in blocks that are recomputed; the inputs of the first need no gradient, so none is ever made."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        for layer in model.base_model.model.model.layers:
            layer.forward = self.recomputed(layer.forward)

    def recomputed(self, forward):
        def wrapped(hidden, **options):
            return checkpoint(lambda h: forward(h, **options), hidden, use_reentrant=True)

        return wrapped

    def forward(self, **inputs):
        return self.model(**inputs)


@fault(kind="no_gradient|nothing_trains", words="no gradient", parameters=r".*lora_.*", stages=("backward",))
def checkpointed_adapters():
    """LoRA and checkpointing without enable_input_require_grads: only the head trains (open-unlearning#178)."""
    model = Checkpointed(adapted(lora_config(modules_to_save=["lm_head"])))
    optimizer = optim.AdamW(trainable(model), lr=1e-3, weight_decay=0.0)
    return Training(model, optimizer, next_token(model))


@fault(kind="nothing_trains", words="nothing trains|never train|no gradient", severity=FAULT, parameters=r".*lora_.*",
       stages=("backward", "after 10 steps, backward"))  # fmt: skip
def lora_of_zeros():
    """LoRA with A = 0 and B = 0: the gradient of each is a product with the other, 0 forever (cosmos-predict2.5#15)."""
    model = adapted(lora_config())
    for name, p in model.named_parameters():
        if "lora_A" in name:
            nn.init.zeros_(p)
    return fine_tuned(model)


@fault(kind="nothing_trains", words="nothing trains|no gradient", severity=FAULT, parameters=ALL,
       stages=("backward", "after 10 steps, backward"))  # fmt: skip
def dead_relu():
    """A layer whose ReLUs are all off, and no bias after it: every gradient is exactly zero (dlrm#358)."""
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10, bias=False))
    nn.init.constant_(model[2].bias, -10)
    return Training(model, adam(model), classified(model))


@fault(kind="no_gradient|nothing_trains|(dead|stuck)_at_zero", words="zero", parameters=r".*\.weight", also=r".*\.bias",
       stages=("after 10 steps, backward",))  # fmt: skip
def dead_relu_and_bias():
    """The same with a bias in the last layer, which alone is trained (dlrm#358)."""
    model = mlp(32, 64, 64, 10)
    nn.init.constant_(model[2].bias, -10)
    return Training(model, adam(model), classified(model))


@fault(kind="no_gradient|nothing_trains|(dead|stuck)_at_zero", words="zero", parameters=r".*\.weight", also=r".*\.bias",
       stages=("after 10 steps, backward",))  # fmt: skip
def started_at_zero():
    """All weights start at zero: only the last bias ever gets a gradient (NaNmnist#2)."""
    model = mlp(32, 64, 64, 10)
    for p in model.parameters():
        nn.init.zeros_(p)
    return Training(model, adam(model), classified(model))


@fault(kind="clipping_sets_the_step", words="clip", parameters=ALL, stages=("backward",))
def clipped_at_a_hundredth():
    """SGD clipped at 0.01 where the norm is about 1: every step is as long as clipping makes it (detr#91)."""
    model = mlp(32, 64, 64, 10)
    return Training(model, sgd(model, 0.1), classified(model), max_norm=0.01)


class Clipped(Training):
    """Leaves the gradients clipped for whoever looks after backward."""

    def backward(self, step):
        loss = super().backward(step)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        return loss


@fault(kind="most_below_eps|clipping.*", words="clip.*eps|eps.*clip", stages=("after 10 steps, backward",))
def clipped_below_eps():
    """AdamW clipped at 1e-6: what is left is below eps, so the steps are that much smaller (keras-retinanet#942)."""
    model = mlp(32, 64, 64, 10)
    return Clipped(model, optim.AdamW(model.parameters(), lr=1e-3), classified(model), max_norm=1e-6)


class ClipsScaled(Training):
    """Clips what is still multiplied by the scale."""

    def update(self):
        self.clip()
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()


@fault(kind=".*clip.*|most_below_eps", words="unscale_", stages=("after 11 steps, before zero_grad",))
def clipped_before_unscale():
    """clip_grad_norm_ before scaler.unscale_ clips to 1/65,536 of what is meant (lightning#9599, examples#1196)."""
    model = mlp(32, 64, 64, 10)
    scaler = torch.amp.GradScaler("cpu")
    return ClipsScaled(model, sgd(model, 0.1), classified(model), 1.0, autocast=torch.float16, scaler=scaler)


@fault(kind="not_finite", words="NaN|infinit", severity=FAULT, parameters=r"0\..*", stages=("backward",))
def root_of_zero():
    """A norm at zero: its gradient is NaN, and so is everything below (pytorch#2421, pytorch_stoi#7)."""
    model, batch = mlp(32, 16, 10), data.vectors()

    def loss(number):
        hidden = model[1](model[0](batch(number)[0]))
        return (
            functional.cross_entropy(model[2](hidden), batch(number)[1])
            + 1e-3 * (hidden - hidden).square().sum().sqrt()
        )

    return Training(model, adam(model), loss)


@fault(kind="not_finite", words="NaN|infinit", severity=FAULT, stages=("after 10 steps",))
def exploded():
    """No clipping and an lr that diverges: the parameters are infinite within ten steps (yolov3#4)."""
    model, batch = mlp(8, 64, 64, 1), data.numbers()
    loss = lambda n: 100 * functional.mse_loss(model(batch(n)[0]), batch(n)[1])  # noqa: E731
    return Training(model, sgd(model, 1e3), loss)


@fault(kind="no_gradient", words="no gradient", parameters=r"model\..*", stages=("backward",))
def under_no_grad():
    """The backbone runs under torch.no_grad, left over from inference: only the head trains (ludwig#3572)."""
    model = llama_model()
    forward = model.model.forward

    def without(*args, **options):
        with torch.no_grad():
            return forward(*args, **options)

    model.model.forward = without
    return Training(model, adamw(model, 1e-3), next_token(model))
