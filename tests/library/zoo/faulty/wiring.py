"""Mistakes in which parameters an optimizer holds."""

import warnings

import torch
from torch import nn, optim
from torch.nn.utils import parametrizations

from tests.library.zoo.healthy.language import bert_config, gpt2_model, next_token
from tests.library.zoo.healthy.plain import classified, mlp
from tests.library.zoo.healthy.vision import classified as pictured
from tests.library.zoo.healthy.vision import plain_cnn, resnet_model
from tests.library.zoo.optimizers import adam, adamw, sgd
from tests.library.zoo.training import Training
from tests.library.zoo.zoo import FAULT, WARNING, fault

START = ("before training", "backward")


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(32, 32), nn.Linear(32, 32)]
        self.out = nn.Linear(32, 10)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return self.out(x)


@fault(kind=".*register.*|.*list.*", words="layers.*ModuleList|ModuleList.*layers", stages=START)
def layers_in_a_list():
    """Layers in a Python list: they compute, and parameters() does not know them (pytorch#59925, #715, #38639)."""
    model = Listed()
    return Training(model, adam(model), classified(model))


class Relations(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = {name: nn.Parameter(torch.randn(32, 32) / 6) for name in ("near", "far")}
        self.out = nn.Linear(32, 10)

    def forward(self, x):
        return self.out((x @ self.weights["near"]).relu() + (x @ self.weights["far"]).tanh())


@fault(kind=".*register.*|.*list.*", words="weights.*ParameterDict|ParameterDict.*weights|register", stages=START)
def parameters_in_a_dict():
    """Parameters in a Python dict, the same (pytorch#632)."""
    model = Relations()
    return Training(model, adam(model), classified(model))


@fault(
    kind=".*stale.*|left_out", words="optimizer.*hold|hold.*optimizer", parameters=r"classifier\.1\..*", stages=START
)
def head_replaced():
    """A new head after the optimizer was made, which goes on holding the old one (pytorch#14467)."""
    model = resnet_model()
    optimizer = sgd(model, 0.1)
    model.classifier[1] = nn.Linear(32, 10)
    return Training(model, optimizer, pictured(model))


@fault(kind=".*stale.*|left_out", words="optimizer.*hold|hold.*optimizer", stages=START,
       parameters=r"transformer\.wte\.weight")  # fmt: skip
def embeddings_resized():
    """A new table of embeddings after the optimizer was made, which goes on holding the old one (ColossalAI#5539)."""
    model = gpt2_model()
    optimizer = adamw(model, 6e-4)
    model.transformer.wte = nn.Embedding(64, 48)
    model.lm_head.weight = model.transformer.wte.weight
    return Training(model, optimizer, next_token(model))


@fault(kind=".*stale.*|left_out", words="optimizer.*hold|hold.*optimizer", stages=START,
       parameters=r"0\.parametrizations\.weight\.original.")  # fmt: skip
def normed_after_the_optimizer():
    """weight_norm after the optimizer was made: direction and magnitude are new parameters (nncf#327)."""
    model = mlp(32, 64, 10)
    optimizer = adam(model)
    parametrizations.weight_norm(model[0])
    return Training(model, optimizer, classified(model))


@fault(kind="refused|.*stale.*|left_out|nothing_trains", words="optimizer.*hold|hold.*optimizer", severity=FAULT,
       stages=START, parameters=".*")  # fmt: skip
def optimizer_of_another_model():
    """The optimizer was made for a model that was then made anew: it holds nothing of this one (pytorch#14467)."""
    old, model = mlp(32, 64, 10), mlp(32, 64, 10)
    return Training(model, adam(old), classified(model))


@fault(kind="left_out", words="no optimizer", parameters=r"0\..*", stages=START)
def first_layer_left_out():
    """The optimizer gets a part of the model only (HDMNet#21)."""
    model = mlp(32, 64, 64, 10)
    return Training(model, optim.Adam([*model[2].parameters(), *model[4].parameters()], lr=1e-3), classified(model))


@fault(kind="left_out", words="no optimizer", parameters=r"cls\.predictions\.bias", stages=START)
def bias_left_out():
    """Groups by name that miss one: no pattern matches the head's bias (lerobot#280)."""
    import transformers as hf

    from tests.library.zoo.healthy.language import masked

    model = hf.BertForMaskedLM(bert_config())
    groups = [{"params": [p for n, p in model.named_parameters() if not n.startswith("cls.predictions.bias")]}]
    return Training(model, optim.AdamW(groups, lr=1e-3, weight_decay=0.0), masked(model))


@fault(kind=".*duplicate.*|.*twice.*", words="twice|more than once", parameters=r"2\..*", stages=START)
def listed_twice():
    """Parameters twice in one group: they are stepped twice (pytorch#40967, tianshou#395)."""
    model = mlp(32, 64, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = optim.Adam([*model.parameters(), *model[2].parameters()], lr=1e-3)
    return Training(model, optimizer, classified(model))


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = plain_cnn(), nn.Linear(10, 10)
        self.backbone.requires_grad = False  # an attribute like any other: it freezes nothing

    def forward(self, x):
        return self.head(self.backbone(x))


@fault(kind=".*froz.*|.*freez.*", words=r"requires_grad", severity=WARNING, parameters=r"backbone\..*", stages=START)
def not_frozen():
    """module.requires_grad = False, which freezes nothing (MICCAI23-ProtoContra-SFDA#18)."""
    model = Frozen()
    return Training(model, adam(model), pictured(model))
