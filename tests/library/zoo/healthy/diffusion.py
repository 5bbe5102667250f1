"""Models that make images: diffusers' and plain adversarial ones."""

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel
from torch import nn, optim
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.library.zoo import data
from tests.library.zoo.optimizers import adam, adamw, trainable, zeroed
from tests.library.zoo.training import Training, cosine, warm_up_and_cosine
from tests.library.zoo.zoo import healthy


def denoising(predict, side=8):
    """The loss of a network that predicts the noise; ``predict`` takes the noisy images and their times."""
    batch = data.smooth_images(side=side)

    def loss(number):
        clean = batch(number)
        generator = torch.Generator().manual_seed(number % 8)
        noise = torch.randn(clean.shape, generator=generator)
        time = torch.randint(1000, (len(clean),), generator=generator)
        angle = (time / 1000 * torch.pi / 2)[:, None, None, None]
        return functional.mse_loss(predict(clean * angle.cos() + noise * angle.sin(), time), noise)

    return loss


def unet_model():
    return UNet2DModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def conditional_unet_model():
    return UNet2DConditionModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(16, 32), layers_per_block=1,
        norm_num_groups=8, attention_head_dim=8, cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def dit_model():
    """DiT, its gates and its last layer at zero as the paper starts them."""
    model = DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=12, in_channels=3, num_layers=2, sample_size=16, patch_size=4,
        num_embeds_ada_norm=4, norm_num_groups=3,
    )  # fmt: skip
    zeroed(*(block.norm1.linear for block in model.transformer_blocks), model.proj_out_2)
    return model


@healthy
def unet():
    """A UNet on pixels: its first steps go through group norms, and its keys have biases."""
    model = unet_model()
    optimizer = optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    loss = denoising(lambda noisy, time: model(noisy, time).sample)
    return Training(model, optimizer, loss, max_norm=1.0, schedule=warm_up_and_cosine)


@healthy
def unet_conditional():
    """Stable Diffusion's UNet, fine-tuned as diffusers' script does: AdamW at 1e-5, decay 0.01 on everything."""
    model = conditional_unet_model()
    text = torch.randn(8, 4, 16, generator=torch.Generator().manual_seed(3))
    optimizer = optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-2)
    loss = denoising(lambda noisy, time: model(noisy, time, encoder_hidden_states=text).sample)
    return Training(model, optimizer, loss, max_norm=1.0)


@healthy
def dit():
    """DiT with adaLN-Zero: gates and the last layer start at zero, so most gradients do too."""
    model = dit_model()
    classes = torch.arange(8) % 4
    optimizer = optim.AdamW(trainable(model), lr=1e-3, weight_decay=0.0)
    loss = denoising(lambda noisy, time: model(noisy, timestep=time, class_labels=classes).sample, side=16)
    return Training(model, optimizer, loss)


@healthy
def autoencoder():
    """Stable Diffusion's autoencoder: reconstruction and a little KL, Adam with β₁ = 0.5."""
    model = AutoencoderKL(
        block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=8, sample_size=16,
    )  # fmt: skip
    batch = data.smooth_images()

    def loss(number):
        pictures = batch(number)
        posterior = model.encode(pictures).latent_dist
        restored = model.decode(posterior.sample(torch.Generator().manual_seed(number))).sample
        return functional.l1_loss(restored, pictures) + 1e-6 * posterior.kl().mean()

    return Training(model, optim.Adam(trainable(model), lr=1e-3, betas=(0.5, 0.9)), loss)


@healthy
def flow_matching():
    """An MLP that learns a velocity, on points in the plane."""
    model = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def loss(number):
        generator = torch.Generator().manual_seed(number % 8)
        noise, time = torch.randn(128, 2, generator=generator), torch.rand(128, 1, generator=generator)
        angle = 2 * torch.pi * torch.rand(128, 1, generator=generator)
        circle = 2 * torch.cat([angle.cos(), angle.sin()], 1)
        return functional.mse_loss(model(torch.cat([(1 - time) * noise + time * circle, time], 1)), circle - noise)

    return Training(model, adam(model, 2e-3), loss)


@healthy
def vae():
    """A variational autoencoder with dense layers and Adam's defaults."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 16))
    decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 192), nn.Tanh())
    model, batch = nn.ModuleDict({"encoder": encoder, "decoder": decoder}), data.smooth_images(side=8)

    def loss(number):
        pictures = batch(number)
        mean, log_variance = encoder(pictures).chunk(2, 1)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(number))
        restored = decoder(mean + noise * (log_variance / 2).exp())
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return functional.mse_loss(restored, pictures.flatten(1), reduction="sum") / len(pictures) + divergence

    return Training(model, adam(model, 1e-3), loss)


class Adversaries(Training):
    """Two players with an optimizer each; the gradients of both are there before either steps.

    ``losses_of`` gives the critic's loss and the generator's for a batch.
    """

    def backward(self, step):
        generator, critic = self.model["generator"], self.model["critic"]
        critic_loss, generator_loss = self.loss(step)
        critic.requires_grad_(True)
        for player, loss in ((critic, critic_loss), (generator, generator_loss)):
            parameters = list(player.parameters())
            for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters, retain_graph=True)):
                p.grad = gradient
        return critic_loss.item()


def adversaries(norm=nn.Identity, spectral=lambda layer: layer):
    generator = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    critic = nn.Sequential(
        spectral(nn.Linear(2, 64)), nn.LeakyReLU(0.2), spectral(nn.Linear(64, 64)), nn.LeakyReLU(0.2),
        spectral(nn.Linear(64, 1)),
    )  # fmt: skip
    return nn.ModuleDict({"generator": generator, "critic": critic})


def played(model, losses_of, optimizers):
    """The training of two players on a Gaussian around (2, 1); evaluated by how far the generator's mean is from it."""

    def real_and_fake(number):
        generator = torch.Generator().manual_seed(number)
        real = torch.randn(64, 2, generator=generator) * 0.3 + torch.tensor([2.0, 1.0])
        return real, model["generator"](torch.randn(64, 4, generator=generator))

    def distance():
        with torch.no_grad():
            return (real_and_fake(1000)[1].mean(0) - torch.tensor([2.0, 1.0])).norm().item()

    return Adversaries(model, optimizers, lambda number: losses_of(*real_and_fake(number)), evaluate=distance)


@healthy
def gan():
    """A GAN with Adam at β₁ = 0.5, as DCGAN set it."""
    model = adversaries()
    critic = model["critic"]

    def losses_of(real, fake):
        wrong = functional.softplus(-critic(real)).mean() + functional.softplus(critic(fake.detach())).mean()
        return wrong, functional.softplus(-critic(fake)).mean()

    betas = (0.5, 0.999)
    optimizers = [optim.Adam(player.parameters(), lr=2e-3, betas=betas) for player in model.values()]
    return played(model, losses_of, optimizers)


@healthy
def wgan_gp():
    """A Wasserstein GAN with a gradient penalty: the loss has no offset, so the critic's last bias has no gradient."""
    model = adversaries()
    critic = model["critic"]

    def losses_of(real, fake):
        mixed = (0.5 * real + 0.5 * fake.detach()).requires_grad_()
        slope = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)[0]
        penalty = 10 * (slope.norm(dim=1) - 1).square().mean()
        return critic(fake.detach()).mean() - critic(real).mean() + penalty, -critic(fake).mean()

    betas = (0.0, 0.9)
    lrs = {"generator": 2e-3, "critic": 8e-3}
    optimizers = [optim.Adam(player.parameters(), lr=lrs[name], betas=betas) for name, player in model.items()]
    return played(model, losses_of, optimizers)


@healthy
def gan_spectral():
    """A hinge GAN whose critic is under spectral norm, two lrs."""
    model = adversaries(spectral=parametrizations.spectral_norm)
    critic = model["critic"]

    def losses_of(real, fake):
        wrong = functional.relu(1 - critic(real)).mean() + functional.relu(1 + critic(fake.detach())).mean()
        return wrong, -critic(fake).mean()

    optimizers = [
        optim.Adam(model["generator"].parameters(), lr=1e-3, betas=(0.0, 0.9)),
        optim.Adam(model["critic"].parameters(), lr=4e-3, betas=(0.0, 0.9)),
    ]
    return played(model, losses_of, optimizers)


@healthy
def super_resolution():
    """Convolutions without norms and an L1 loss, Adam and a cosine: EDSR's shape, its last layer small."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 12, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip
    batch = data.smooth_images()

    def loss(number):
        return functional.l1_loss(model(functional.avg_pool2d(batch(number), 2)), batch(number))

    return Training(model, adamw(model, 2e-3, 0.0), loss, schedule=cosine)
