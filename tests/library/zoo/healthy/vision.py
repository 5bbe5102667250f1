"""Models of images: transformers' and torch.nn's."""

import torch
import transformers as hf
from torch import nn, optim
from torch.nn import functional

from tests.library.zoo import data
from tests.library.zoo.optimizers import adamw, layer_decayed, sgd, split, trainable
from tests.library.zoo.training import Training, cosine, warm_up_and_cosine
from tests.library.zoo.zoo import healthy


def classified(model, batch=None):
    """The loss of a classifier of transformers, or of one that returns logits."""
    batch = batch or data.images()

    def loss(number):
        pictures, labels = batch(number)
        outputs = model(pictures)
        return functional.cross_entropy(getattr(outputs, "logits", outputs), labels)

    return loss


def vit_model(layers=3):
    config = hf.ViTConfig(
        hidden_size=48, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=96, image_size=16,
        patch_size=4, num_labels=10,
    )  # fmt: skip
    return hf.ViTForImageClassification(config)


def resnet_model():
    config = hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32], depths=[1, 1, 1], layer_type="basic", num_labels=10
    )
    return hf.ResNetForImageClassification(config)


def plain_cnn(norm=True):
    """Convolutions without biases, batch norm, ReLU: a small VGG."""
    layers = []
    for inner, outer in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(outer)] * norm + [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4, 10))


@healthy
def vit():
    """ViT as DeiT trains it: AdamW, decay 0.05 on matrices; the class token starts near zero, the positions too."""
    model = vit_model()
    optimizer = adamw(model, 1e-3, 0.05, betas=(0.9, 0.999), spared=("cls_token", "position"))
    return Training(model, optimizer, classified(model), schedule=warm_up_and_cosine)


@healthy
def vit_fine_tuned():
    """ViT fine-tuned as BEiT's and MAE's scripts do: lr falls by 0.75 from each layer to the one below."""
    model = vit_model(4)

    def depth_of(name):
        number = [int(part) for part in name.split(".") if part.isdigit()]
        return 5 if name.startswith(("classifier", "vit.layernorm")) else number[0] + 1 if number else 0

    optimizer = layer_decayed(model, 1e-3, 5, 0.75, depth_of)
    return Training(model, optimizer, classified(model), schedule=warm_up_and_cosine)


@healthy
def vit_linear_probe():
    """A frozen ViT under a head that SGD trains."""
    model = vit_model()
    model.vit.requires_grad_(False)
    return Training(model, sgd(model, 0.1), classified(model), schedule=cosine)


@healthy
def convnext():
    """ConvNeXt: layer scales start at 1e-6, so nearly all of a block's gradient is as small at first."""
    config = hf.ConvNextConfig(
        hidden_sizes=[16, 32], depths=[2, 2], num_stages=2, patch_size=2, image_size=16, num_labels=10
    )
    model = hf.ConvNextForImageClassification(config)
    optimizer = adamw(model, 1e-3, 0.05, betas=(0.9, 0.999))
    return Training(model, optimizer, classified(model), schedule=warm_up_and_cosine)


@healthy
def resnet():
    """ResNet as torch's own example trains it: SGD, momentum 0.9, decay 1e-4 on everything."""
    model = resnet_model()
    return Training(model, sgd(model, 0.1, weight_decay=1e-4), classified(model), schedule=cosine)


@healthy
def resnet_nesterov():
    """ResNet with Nesterov's momentum, decay 5e-4 on convolutions and the head only."""
    model = resnet_model()
    optimizer = optim.SGD(split(model, 5e-4), lr=0.1, momentum=0.9, nesterov=True)
    return Training(model, optimizer, classified(model), schedule=warm_up_and_cosine)


@healthy
def resnet_adam():
    """ResNet with Adam's defaults, as in most tutorials; gradients are kept and set to zero."""
    model = resnet_model()
    return Training(model, optim.Adam(model.parameters(), lr=1e-3), classified(model), set_to_none=False)


@healthy
def vgg():
    """Convolutions and batch norm; a convolution under a norm has no scale of its own."""
    model = plain_cnn()
    optimizer = optim.AdamW(split(model, 0.01), lr=2e-3)
    return Training(model, optimizer, classified(model), schedule=warm_up_and_cosine)


@healthy
def vgg_with_biases():
    """Convolutions with biases before batch norm, which takes their effect away: their gradient is rounding only."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    return Training(model, optim.Adam(model.parameters(), lr=1e-3), classified(model))


class Mixer(nn.Module):
    """MLP-Mixer: MLPs over positions and over channels, in turn."""

    def __init__(self, width=48, places=16, layers=3):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.places = nn.ModuleList(self.mlp(places, 32) for _ in range(layers))
        self.channels = nn.ModuleList(self.mlp(width, 96) for _ in range(layers))
        self.head = nn.Linear(width, 10)
        nn.init.zeros_(self.head.weight)  # as in the paper's code

    def mlp(self, width, inner):
        return nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, pictures):
        x = self.patch(pictures).flatten(2).transpose(1, 2)
        for i, (places, channels) in enumerate(zip(self.places, self.channels)):
            x = x + places(self.norms[2 * i](x).transpose(1, 2)).transpose(1, 2)
            x = x + channels(self.norms[2 * i + 1](x))
        return self.head(x.mean(1))


@healthy
def mlp_mixer():
    """MLP-Mixer, whose head starts at zero: no gradient reaches the rest in the first step."""
    model = Mixer()
    optimizer = adamw(model, 1e-3, 0.1, betas=(0.9, 0.999))
    return Training(model, optimizer, classified(model), 1.0, warm_up_and_cosine)


@healthy
def clip():
    """CLIP: two towers, and a temperature, one number that is learned as a logarithm."""
    tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    config = hf.CLIPConfig(
        text_config=dict(tower, vocab_size=64, max_position_embeddings=16, eos_token_id=2, bos_token_id=1),
        vision_config=dict(tower, image_size=16, patch_size=4),
        projection_dim=32,
    )
    model = hf.CLIPModel(config)
    batch, words = data.images(), data.tokens(length=8, size=10)

    def loss(number):
        pictures, labels = batch(number)
        text = words(0)[labels]
        return model(input_ids=text, pixel_values=pictures, return_loss=True).loss

    optimizer = adamw(model, 5e-4, 0.2, betas=(0.9, 0.98), eps=1e-6)
    return Training(model, optimizer, loss, 1.0, warm_up_and_cosine)


class Siamese(nn.Module):
    """One encoder for two pictures."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(plain_cnn(), nn.ReLU(), nn.Linear(10, 8))

    def forward(self, first, second):
        return functional.pairwise_distance(self.encoder(first), self.encoder(second))


@healthy
def siamese():
    """A contrastive loss on pairs of pictures."""
    model, batch = Siamese(), data.images(classes=4)

    def loss(number):
        pictures, labels = batch(number)
        distance = model(pictures[:8], pictures[8:])
        same = (labels[:8] == labels[8:]).float()
        return (same * distance**2 + (1 - same) * functional.relu(1 - distance) ** 2).mean()

    return Training(model, optim.Adam(model.parameters(), lr=5e-4), loss)


@healthy
def self_distilled():
    """DINO's shape: a student that is trained, and a teacher that is its moving average and needs no gradient."""
    model = nn.ModuleDict({"student": plain_cnn(), "teacher": plain_cnn()})
    model["teacher"].load_state_dict(model["student"].state_dict())
    model["teacher"].requires_grad_(False)
    batch = data.images()

    def loss(number):
        pictures, labels = batch(number)
        with torch.no_grad():
            for teacher, student in zip(model["teacher"].parameters(), model["student"].parameters()):
                teacher.lerp_(student, 0.01)
            target = functional.softmax(model["teacher"](pictures) / 0.5, 1)
        logits = model["student"](pictures)
        return functional.cross_entropy(logits, labels) + 0.1 * functional.cross_entropy(logits, target)

    optimizer = optim.AdamW(split(model, 0.04), lr=1e-3)
    return Training(model, optimizer, loss, schedule=warm_up_and_cosine)


@healthy
def one_cycle():
    """SGD under the one-cycle schedule: lr up to its peak at 0.3 of the run, then down."""
    model = plain_cnn()

    def schedule(step):
        return 0.04 + 0.96 * step / 15 if step < 15 else warm_up_and_cosine(step, 15)

    return Training(model, sgd(model, 0.1, weight_decay=5e-4), classified(model), schedule=schedule)


@healthy
def segformer():
    """SegFormer: a label for each pixel, depthwise convolutions, attention to a coarser grid."""
    config = hf.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], hidden_sizes=[16, 32], num_attention_heads=[1, 2], sr_ratios=[2, 1],
        decoder_hidden_size=32, patch_sizes=[3, 3], strides=[2, 2], mlp_ratios=[2, 2], num_labels=4,
    )  # fmt: skip
    model = hf.SegformerForSemanticSegmentation(config)
    batch = data.smooth_images()

    def loss(number):
        pictures = batch(number)
        labels = (pictures[:, 0] > 0).long() + 2 * (pictures[:, 1] > 0).long()
        return model(pixel_values=pictures, labels=labels).loss

    optimizer = adamw(model, 1e-3, 0.01, betas=(0.9, 0.999))
    return Training(model, optimizer, loss, schedule=warm_up_and_cosine)


@healthy
def vgg_rmsprop():
    """RMSprop with momentum, as mobile networks were trained."""
    model = plain_cnn()
    optimizer = optim.RMSprop(trainable(model), lr=1e-3, alpha=0.9, momentum=0.9)
    return Training(model, optimizer, classified(model), schedule=cosine)
