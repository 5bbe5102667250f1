"""Mistakes in lr, weight decay, eps and betas."""

from torch import nn, optim

from tests.library.zoo.healthy.language import gpt2_model, llama_model, next_token
from tests.library.zoo.healthy.plain import classified, mlp
from tests.library.zoo.healthy.vision import classified as pictured
from tests.library.zoo.healthy.vision import clip as healthy_clip
from tests.library.zoo.healthy.vision import plain_cnn, vit_model
from tests.library.zoo.optimizers import adam, adamw, layer_decayed, sgd, split, trainable
from tests.library.zoo.training import Training, warm_up_and_cosine
from tests.library.zoo.zoo import FAULT, REMARK, WARNING, fault

ALL = ".*"
START = ("before training", "backward")


def raised(model, pattern, lr, factor):
    """AdamW with ``factor`` times the lr for what ``pattern`` names."""
    chosen = [p for name, p in model.named_parameters() if pattern in name]
    held = set(chosen)
    others = [p for p in trainable(model) if p not in held]
    groups = [{"params": others}, {"params": chosen, "lr": factor * lr}]
    return optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)


@fault(kind="moves_unlike_the_rest", words="moves", parameters=r"lm_head\.weight", stages=START)
def head_too_fast():
    """A new head at 30 times the lr of the rest, where 10 is usual (temporal-shift-module#104)."""
    model = llama_model()
    return Training(model, raised(model, "lm_head", 1e-3, 30), next_token(model))


@fault(kind="moves_unlike_the_rest", words="moves", parameters=r"model\.layers\.1\.mlp\.up_proj\.weight", stages=START)
def one_layer_too_fast():
    """One matrix in a group of its own, at 30 times the lr: a multiplier that matched too little (mmengine#1612)."""
    model = llama_model()
    return Training(model, raised(model, "layers.1.mlp.up_proj", 1e-3, 30), next_token(model))


@fault(
    kind="moves_unlike_the_rest|all_move_far|lr_of_groups", words="lr", parameters=r"model\.layers\..*", stages=START
)
def blocks_too_fast():
    """All blocks at ten times the lr of embeddings and head, so that the median is wrong too (lerobot#280)."""
    model = llama_model()
    return Training(model, raised(model, "layers.", 3e-4, 10), next_token(model))


@fault(kind="all_move_far", words="lr", stages=START)
def adam_with_the_lr_of_sgd():
    """SGD was replaced by Adam and its lr was kept (language-modeling#3, transferlearning#448)."""
    model = plain_cnn()
    return Training(model, adam(model, 0.1), pictured(model))


@fault(kind="all_move_little|moves_unlike_the_rest|lost_to_rounding", words="lr", severity=REMARK,
       stages=("after 10 steps, backward",))  # fmt: skip
def sgd_with_the_lr_of_adam():
    """Adam was replaced by SGD and lr = 1e-5 was kept, so a step changes a millionth (LOMO#50)."""
    model = mlp(32, 64, 64, 10)
    return Training(model, sgd(model, 1e-5, momentum=0.0), classified(model))


@fault(kind="moves_unlike_the_rest|lr_of_groups", words="lr", stages=START, also=ALL,
       parameters=r"vit\.embeddings\..*")  # fmt: skip
def layer_decay_of_a_tenth():
    """Layer decay 0.1 where 0.9 was meant: the lowest layers get 1e-5 of the head's lr (mae#177)."""
    model = vit_model(4)

    def depth_of(name):
        number = [int(part) for part in name.split(".") if part.isdigit()]
        return 5 if name.startswith(("classifier", "vit.layernorm")) else number[0] + 1 if number else 0

    return Training(model, layer_decayed(model, 1e-3, 5, 0.1, depth_of), pictured(model))


@fault(kind="lost_to_rounding|all_move_little|lr_is_zero|moves_unlike_the_rest", words="lr|round|moves",
       severity=REMARK, stages=("after 50 steps, backward",))  # fmt: skip
def layer_decay_at_every_step():
    """Layer decay applied at every step and not once: lr falls to nothing (ViTPose_pytorch#20)."""
    model = vit_model()
    return Training(model, adamw(model, 1e-3, 0.05), pictured(model), schedule=lambda step: 0.75**step)


@fault(kind="lr_is_zero|nothing_moves", words="lr is 0", severity=REMARK, parameters=ALL,
       stages=("after 10 steps, backward",))  # fmt: skip
def warm_up_without_end():
    """A scheduler that is never stepped: lr stays at the 0 from which warm-up starts (transformers#20916, #34754)."""
    model = llama_model()
    return Training(model, adamw(model, 1e-3), next_token(model), schedule=lambda step: 0.0)


@fault(kind="lost_to_rounding|all_move_little|lr_is_zero", words="lr|round", severity=REMARK,
       stages=("after 50 steps, backward",))  # fmt: skip
def scheduled_by_batch():
    """A StepLR meant for epochs is stepped at every batch: lr falls by ten every five steps (SRGAN#94)."""
    model = mlp(32, 64, 64, 10)
    return Training(model, adam(model), classified(model), schedule=lambda step: 0.1 ** (step // 5))


@fault(kind="much_decay|.*decay.*", words="decay", parameters=r".*norm\.weight", stages=("after 10 steps, backward",))
def norms_decay_by_one():
    """A decay of 1 on the norms' gains alone: a slip in a group's pattern."""
    model = llama_model()
    gains = [p for name, p in model.named_parameters() if "norm" in name]
    held = set(gains)
    groups = [
        {"params": [p for p in model.parameters() if p not in held], "weight_decay": 0.1},
        {"params": gains, "weight_decay": 1.0},
    ]
    return Training(model, optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95)), next_token(model))


@fault(kind=".*decay.*", words="gain|bias|norm|one-dimensional", severity=REMARK, stages=("before training",),
       parameters=r".*(norm\.weight)")  # fmt: skip
def everything_decays():
    """AdamW(model.parameters(), weight_decay=0.1): the norms' gains decay too (lit-llama#254, minGPT#23)."""
    model = llama_model()
    optimizer = optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1)
    return Training(model, optimizer, next_token(model))


@fault(kind=".*decay.*", words="gain|bias|norm|one-dimensional", severity=REMARK, stages=("before training",))
def everything_decays_in_gpt2():
    """The same in a model with biases: 25 gains and biases decay (keras-bert#60, transformers#4360)."""
    model = gpt2_model()
    optimizer = optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1)
    return Training(model, optimizer, next_token(model))


@fault(kind=".*decay.*", words="logit_scale", severity=REMARK, stages=("before training",))
def temperature_decays():
    """CLIP with decay 0.2 on everything, its temperature too, which heads for 1 (open_clip#815)."""
    training = healthy_clip()
    optimizer = optim.AdamW(training.model.parameters(), lr=5e-4, weight_decay=0.2)
    return Training(training.model, optimizer, training.loss, 1.0, warm_up_and_cosine)


@fault(kind=".*decay.*", words="decay", severity=REMARK, parameters=r".*\.(A_log|D)", stages=("before training",))
def mamba_decays():
    """Mamba's A_log and D decay, though they are marked with _no_weight_decay (mad-lab#5, mamba#798)."""
    import transformers as hf

    config = hf.MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=8)
    model = hf.MambaForCausalLM(config)
    for name, p in model.named_parameters():
        if name.endswith(("A_log", ".D")):
            p._no_weight_decay = True
    spared = [p for n, p in model.named_parameters() if p.ndim < 2 and not n.endswith(".D")]
    held = set(spared)
    groups = [
        {"params": [p for p in model.parameters() if p not in held], "weight_decay": 0.1},
        {"params": spared, "weight_decay": 0.0},
    ]
    return Training(model, optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95)), next_token(model))


@fault(kind="much_decay", words="decay", stages=("after 10 steps, backward",))
def coupled_decay():
    """Adam(weight_decay=0.1), which adds λ·w to the gradient, where AdamW's was meant (pytorch#4429, #41477)."""
    model = gpt2_model()
    return Training(model, adam(model, 6e-4, weight_decay=0.1), next_token(model))


@fault(kind="much_decay", words="decay", severity=FAULT, stages=("after 10 steps, backward",))
def decay_not_multiplied_by_lr():
    """A decay of 100 for AdamW: λ from a library that does not multiply it by lr (apex#1849)."""
    model = mlp(32, 64, 64, 10)
    return Training(model, optim.AdamW(split(model, 100.0), lr=1e-3), classified(model))


@fault(kind="most_below_eps", words="eps", severity=WARNING, stages=("after 10 steps, backward",))
def eps_of_a_thousandth():
    """Adam with eps = 1e-3 on gradients that are smaller: it is SGD with lr/eps (rl_a3c_pytorch#29)."""
    model = gpt2_model()
    return Training(model, adamw(model, 6e-4, eps=1e-3), next_token(model))


@fault(kind="most_below_eps", words="eps", severity=FAULT, parameters=ALL, stages=("backward",))
def eps_of_tensorflow():
    """RMSprop with eps = 1, as in TensorFlow, where it stands under the root (chainer#4754, pytorch#23796)."""
    model = plain_cnn()
    return Training(
        model, optim.RMSprop(model.parameters(), lr=0.045, alpha=0.9, momentum=0.9, eps=1.0), pictured(model)
    )


@fault(kind="moves_unlike_the_rest", words="moves", parameters=r"transformer\.wte\.weight", stages=START)
def tied_and_large():
    """Embeddings from N(0, 1) that are tied to the head: the logits start at ±7 (modalities#456)."""
    model = gpt2_model()
    nn.init.normal_(model.transformer.wte.weight)
    return Training(model, adamw(model, 6e-4), next_token(model))


@fault(kind="moves_unlike_the_rest|.*gain.*|unusual_size", words="gain|norm|RMS", stages=("before training",),
       parameters=r"transformer\.h\.1\.ln_1\.weight")  # fmt: skip
def gain_of_fifty():
    """A norm's gain of 50, from a checkpoint in another convention: lr 6e-4 never brings it back."""
    model = gpt2_model()
    nn.init.constant_(model.transformer.h[1].ln_1.weight, 50.0)
    return Training(model, adamw(model, 6e-4), next_token(model))


@fault(kind=".*muon.*|.*belong.*", words="embedding|AdamW", stages=("before training",),
       parameters=r"model\.embed_tokens\.weight|lm_head\.weight")  # fmt: skip
def muon_on_embeddings():
    """Muon for every matrix, embeddings and head too (DeepSpeed#7641, musubi-tuner#386)."""
    model = llama_model()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim != 2]
    optimizers = [optim.Muon(matrices, lr=0.02, weight_decay=0.01), optim.AdamW(vectors, lr=3e-4, weight_decay=0.0)]
    return Training(model, optimizers, next_token(model))


@fault(kind="lr_of_different_units", words="unit", severity=WARNING, stages=START)
def one_lr_for_two_optimizers():
    """SGD for the embeddings and Adam for the rest at one lr, and one sweep: the value means nothing in common."""
    model = llama_model()
    embeddings = list(model.model.embed_tokens.parameters())
    rest = [p for name, p in model.named_parameters() if "embed" not in name]
    return Training(model, [optim.SGD(embeddings, lr=1e-3), optim.Adam(rest, lr=1e-3)], next_token(model))


@fault(kind=".*beta.*|.*memory.*", words="β₂|beta2|betas", severity=REMARK, stages=("before training",))
def memory_longer_than_the_run():
    """β₂ = 0.9999, a memory of ten thousand steps, in a run of fifty: a spike is felt to its end (maxtext#17)."""
    model = mlp(32, 64, 64, 10)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.9999))
    return Training(model, optimizer, classified(model), planned=50)
