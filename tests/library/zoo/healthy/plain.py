"""Models of plain torch.nn: sequences, tables, graphs, games, fields."""

import copy

import torch
from torch import nn, optim
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.library.zoo import data
from tests.library.zoo.optimizers import adam, sgd, split, trainable
from tests.library.zoo.training import Training, cosine, warm_up_and_cosine
from tests.library.zoo.zoo import healthy

V = 64


def mlp(*widths, activation=nn.ReLU):
    layers = []
    for inner, outer in zip(widths, widths[1:]):
        layers += [nn.Linear(inner, outer), activation()]
    return nn.Sequential(*layers[:-1])


def classified(model, batch=None):
    batch = batch or data.vectors()
    return lambda number: functional.cross_entropy(model(batch(number)[0]), batch(number)[1])


def fitted(model, batch=None):
    batch = batch or data.numbers()
    return lambda number: functional.mse_loss(model(batch(number)[0]), batch(number)[1])


class Recurrent(nn.Module):
    """A recurrent language model, LSTM or GRU."""

    def __init__(self, layer=nn.LSTM, start=None):
        super().__init__()
        self.embedding, self.core, self.out = nn.Embedding(V, 48), layer(48, 48, 2, batch_first=True), nn.Linear(48, V)
        if start:
            nn.init.uniform_(self.embedding.weight, -start, start)
            nn.init.uniform_(self.out.weight, -start, start)
            nn.init.zeros_(self.out.bias)

    def forward(self, ids):
        return self.out(self.core(self.embedding(ids))[0])


def next_token(model):
    batch = data.tokens(length=16)

    def loss(number):
        ids = batch(number)
        return functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    return loss


@healthy
def mlp_adam():
    """The first network of a course: Adam's defaults."""
    model = mlp(32, 64, 64, 10)
    return Training(model, adam(model), classified(model))


@healthy
def mlp_float64():
    """The same in float64, with NAdam."""
    model = mlp(8, 32, 32, 1, activation=nn.Tanh).double()
    batch = data.numbers()
    optimizer = optim.NAdam(model.parameters(), lr=2e-3)
    return Training(model, optimizer, lambda n: functional.mse_loss(model(batch(n)[0].double()), batch(n)[1].double()))


@healthy
def mlp_sgd():
    """Plain SGD with momentum, no decay."""
    model = mlp(32, 64, 64, 10)
    return Training(model, sgd(model, 0.1), classified(model))


@healthy
def mlp_kept_gradients():
    """Gradients that are set to zero and kept, as ``zero_grad`` did by default before torch 2."""
    model = mlp(32, 64, 64, 10)
    return Training(model, adam(model), classified(model), set_to_none=False)


@healthy
def mlp_bfloat16():
    """All in bfloat16 at an lr that it can resolve, with β₂ = 0.95, which a bfloat16 state can forget."""
    model = mlp(32, 64, 10).bfloat16()
    batch = data.vectors()
    optimizer = optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0)
    return Training(
        model, optimizer, lambda n: functional.cross_entropy(model(batch(n)[0].bfloat16()).float(), batch(n)[1])
    )


@healthy
def mlp_float16():
    """All in float16 with an eps that float16 has, 1e-4, as the threads on NaN under Adam advise."""
    model = mlp(32, 64, 10).half()
    batch = data.vectors()

    def loss(number):
        inputs, labels = batch(number)
        return functional.cross_entropy(model(inputs.half()).float(), labels)

    return Training(model, optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.95), eps=1e-4), loss)


@healthy
def tensor_lr():
    """AdamW with amsgrad and an lr that is a tensor, as under torch.compile."""
    model = mlp(32, 64, 64, 10)
    optimizer = optim.AdamW(split(model, 0.01), lr=torch.tensor(1e-3), amsgrad=True, foreach=False)
    return Training(model, optimizer, classified(model), schedule=cosine)


@healthy
def weight_normed():
    """Weight norm: a direction and a magnitude for each output."""
    model = mlp(32, 64, 64, 10)
    for layer in (model[0], model[2]):
        parametrizations.weight_norm(layer)
    return Training(model, adam(model), classified(model))


@healthy
def subclassed():
    """A subclass of Adam that changes nothing, as many packages have one."""

    class Adam(optim.Adam):
        pass

    model = mlp(32, 64, 64, 10)
    return Training(model, Adam(model.parameters(), lr=1e-3), classified(model))


@healthy
def lstm():
    """A language model of LSTMs with Adam and clipping; each gate has two biases that add up."""
    model = Recurrent()
    return Training(model, adam(model, 2e-3), next_token(model), max_norm=1.0)


@healthy
def lstm_sgd():
    """torch's own word_language_model: SGD at lr = 20, clipped; at 0.25 there, where the network is larger."""
    model = Recurrent(start=0.1)
    return Training(model, sgd(model, 20.0, momentum=0), next_token(model), max_norm=0.05)


@healthy
def gru():
    """GRUs with RMSprop."""
    model = Recurrent(nn.GRU)
    return Training(model, optim.RMSprop(trainable(model), lr=1e-3), next_token(model), max_norm=5.0)


class GraphConvolution(nn.Module):
    """Two layers of graph convolution, as Kipf and Welling's."""

    def __init__(self, edges, inputs=32, hidden=16, classes=4):
        super().__init__()
        self.register_buffer("edges", edges)
        self.first, self.second = nn.Linear(inputs, hidden), nn.Linear(hidden, classes)

    def forward(self, x):
        x = functional.relu(self.edges @ self.first(functional.dropout(x, 0.5, self.training)))
        return self.edges @ self.second(functional.dropout(x, 0.5, self.training))


@healthy
def graph_convolution():
    """A graph network: Adam at 0.01, coupled decay 5e-4 on the first layer only."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(4, (80,), generator=generator)
    alike = (labels[:, None] == labels[None]) & (torch.rand(80, 80, generator=generator) < 0.2)
    edges = (alike | alike.T | torch.eye(80, dtype=torch.bool)).float()
    scale = edges.sum(1).rsqrt()
    features = functional.one_hot(labels, 32) * 2 + torch.randn(80, 32, generator=generator)
    model = GraphConvolution(scale[:, None] * edges * scale)
    groups = [
        {"params": list(model.first.parameters()), "weight_decay": 5e-4},
        {"params": list(model.second.parameters()), "weight_decay": 0},
    ]
    return Training(
        model, optim.Adam(groups, lr=0.01), lambda n: functional.cross_entropy(model(features)[:20], labels[:20])
    )


class Clicks(nn.Module):
    """DLRM: tables of embeddings, most rows of which are rare; an MLP for numbers; products."""

    def __init__(self, rows=(2000, 500, 50), width=8, sparse=False):
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(n, width, mode="sum", sparse=sparse) for n in rows)
        for table in self.tables:
            nn.init.uniform_(table.weight, -(table.num_embeddings**-0.5), table.num_embeddings**-0.5)
        self.bottom, self.top = mlp(4, 16, width), mlp(width + 6, 16, 1)

    def forward(self, numbers, ids):
        each = [self.bottom(numbers)] + [table(ids[:, [i]]) for i, table in enumerate(self.tables)]
        stacked = torch.stack(each, 1)
        products = torch.bmm(stacked, stacked.transpose(1, 2))[:, *torch.triu_indices(4, 4, 1)]
        return self.top(torch.cat([each[0], products], 1))


def clicked(model, rows=(2000, 500, 50)):
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(data.BATCHES):
        ids = torch.stack([(n * torch.rand(64, generator=generator) ** 3).long() for n in rows], 1)
        numbers = torch.randn(64, 4, generator=generator)
        batches.append((numbers, ids, ((ids[:, 2] % 2) ^ (numbers[:, 0] > 0)).float()[:, None]))
    batch = data.cycled(batches)
    return lambda n: functional.binary_cross_entropy_with_logits(model(*batch(n)[:2]), batch(n)[2])


@healthy
def dlrm_adagrad():
    """DLRM with Adagrad, whose accumulator starts at 0.1 as in TensorFlow."""
    model = Clicks()
    optimizer = optim.Adagrad(model.parameters(), lr=0.1, initial_accumulator_value=0.1)
    return Training(model, optimizer, clicked(model))


@healthy
def dlrm_adagrad_from_zero():
    """The same with Adagrad's default, an accumulator from 0."""
    model = Clicks()
    return Training(model, optim.Adagrad(model.parameters(), lr=0.02), clicked(model))


@healthy
def dlrm_sparse():
    """Sparse gradients: SparseAdam for the tables, Adam for the rest."""
    model = Clicks(sparse=True)
    dense = [*model.bottom.parameters(), *model.top.parameters()]
    optimizers = [optim.SparseAdam(list(model.tables.parameters()), lr=5e-3), optim.Adam(dense, lr=5e-3)]
    return Training(model, optimizers, clicked(model))


@healthy
def dlrm_two_optimizers():
    """SGD for the tables, which keeps no state for their rows, and Adam for the rest, each with an lr of its own."""
    model = Clicks(sparse=True)
    dense = [*model.bottom.parameters(), *model.top.parameters()]
    optimizers = [optim.SGD(list(model.tables.parameters()), lr=1.0), optim.Adam(dense, lr=5e-3)]
    return Training(model, optimizers, clicked(model))


@healthy
def word_vectors():
    """Skip-grams with negative samples: two tables, the second from zero, as word2vec starts it."""
    model = nn.ModuleDict({"word": nn.Embedding(1000, 16), "context": nn.Embedding(1000, 16)})
    nn.init.uniform_(model["word"].weight, -0.5 / 16, 0.5 / 16)
    nn.init.zeros_(model["context"].weight)

    def loss(number):
        generator = torch.Generator().manual_seed(number % 4)
        words = (1000 * torch.rand(128, generator=generator) ** 3).long()
        near, far = (words + 1) % 1000, torch.randint(1000, (128,), generator=generator)
        centre = model["word"](words)
        right = (centre * model["context"](near)).sum(1)
        wrong = (centre * model["context"](far)).sum(1)
        return functional.softplus(-right).mean() + functional.softplus(wrong).mean()

    return Training(model, adam(model, 0.01), loss)


@healthy
def matrix_factors():
    """Ratings as products of small vectors: RMS 0.1 at the start, SGD with decay."""
    model = nn.ModuleDict({"user": nn.Embedding(50, 8), "item": nn.Embedding(40, 8)})
    for table in model.values():
        nn.init.normal_(table.weight, std=0.3)
    generator = torch.Generator().manual_seed(1)
    ratings = torch.randn(50, 4, generator=generator) @ torch.randn(4, 40, generator=generator) / 2

    def loss(number):
        users, items = (torch.randint(n, (256,), generator=torch.Generator().manual_seed(number)) for n in (50, 40))
        return functional.mse_loss((model["user"](users) * model["item"](items)).sum(1), ratings[users, items])

    return Training(model, adam(model, 0.02, weight_decay=1e-5), loss)


def orthogonal(model, gain, last):
    """Orthogonal starts as in PPO's implementations: a gain for all layers, another for the last, zero biases."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, last if layer is layers[-1] else gain)
        nn.init.zeros_(layer.bias)
    return model


@healthy
def ppo():
    """PPO's networks: orthogonal starts, a policy head of gain 0.01, Adam with eps 1e-5, clipping at 0.5."""
    policy = orthogonal(mlp(8, 64, 64, 4, activation=nn.Tanh), 2**0.5, 0.01)
    value = orthogonal(mlp(8, 64, 64, 1, activation=nn.Tanh), 2**0.5, 1.0)
    model = nn.ModuleDict({"policy": policy, "value": value})
    old = copy.deepcopy(policy)

    def loss(number):
        generator = torch.Generator().manual_seed(number % 4)
        states = torch.randn(256, 8, generator=generator)
        with torch.no_grad():
            before = functional.log_softmax(old(states), 1)
        actions = torch.multinomial(before.exp(), 1, generator=generator)
        reward = (actions[:, 0] == states[:, :4].argmax(1)).float()[:, None]
        logs = functional.log_softmax(policy(states), 1)
        predicted = value(states)
        advantage = (reward - reward.mean()) / reward.std()
        ratio = (logs - before).gather(1, actions).exp()
        surrogate = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
        entropy = -(logs.exp() * logs).sum(1).mean()
        return 0.5 * functional.mse_loss(predicted, reward) - surrogate - 0.01 * entropy

    def regret():
        states = torch.randn(256, 8, generator=torch.Generator().manual_seed(9))
        with torch.no_grad():
            return 1 - functional.softmax(policy(states), 1).gather(1, states[:, :4].argmax(1)[:, None]).mean().item()

    return Training(model, adam(model, 1e-3, eps=1e-5), loss, max_norm=0.5, evaluate=regret)


@healthy
def soft_actor_critic():
    """SAC: two critics, an actor, and a temperature, one number that starts at 0 as its logarithm; three optimizers."""
    model = nn.ModuleDict({"actor": mlp(6, 64, 64, 4), "critics": nn.ModuleList(mlp(8, 64, 64, 1) for _ in range(2))})
    model.log_temperature = nn.Parameter(torch.zeros(1))

    def loss(number):
        generator = torch.Generator().manual_seed(number % 4)
        states = torch.randn(128, 6, generator=generator)
        tried = torch.rand(128, 2, generator=generator) * 2 - 1
        goal = states[:, :2].tanh()
        reward = -(tried - goal).square().sum(1, keepdim=True)
        critics = sum(functional.mse_loss(critic(torch.cat([states, tried], 1)), reward) for critic in model["critics"])
        mean, log_scale = model["actor"](states).chunk(2, 1)
        noise = torch.randn(mean.shape, generator=generator)
        action = (mean + noise * log_scale.clamp(-5, 2).exp()).tanh()
        entropy = log_scale.clamp(-5, 2).sum(1, keepdim=True)
        temperature = model.log_temperature.exp()
        frozen = [
            torch.func.functional_call(
                c, {n: p.detach() for n, p in c.named_parameters()}, torch.cat([states, action], 1)
            )
            for c in model["critics"]
        ]
        actor = (-temperature.detach() * entropy - torch.min(*frozen)).mean()
        return critics + actor + (temperature * (entropy.detach() + 2)).mean()

    parts = list(model["actor"].parameters()), list(model["critics"].parameters()), [model.log_temperature]
    return Training(model, [optim.Adam(part, lr=1e-3) for part in parts], loss)


@healthy
def q_network():
    """A Q network with the centred RMSprop, and a target network that is a copy and frozen."""
    online = mlp(4, 64, 64, 2)
    model = nn.ModuleDict({"online": online, "target": copy.deepcopy(online).requires_grad_(False)})

    def loss(number):
        generator = torch.Generator().manual_seed(number % 8)
        states = torch.randn(64, 4, generator=generator)
        actions = torch.randint(2, (64, 1), generator=generator)
        reward = (actions[:, 0] == (states[:, 0] > 0)).float()
        after = model["target"](states.roll(1, 0)).max(1).values
        return functional.smooth_l1_loss(online(states).gather(1, actions)[:, 0], reward + 0.5 * after)

    optimizer = optim.RMSprop(online.parameters(), lr=1e-3, alpha=0.95, centered=True)
    return Training(model, optimizer, loss, max_norm=10.0)


class HashTable(nn.Module):
    """instant-ngp: tables of features from ±1e-4, found by a hash of the place, and a small MLP."""

    def __init__(self, levels=4, rows=2048):
        super().__init__()
        self.tables = nn.ParameterList(nn.init.uniform_(torch.empty(rows, 2), -1e-4, 1e-4) for _ in range(levels))
        self.head = mlp(2 * levels, 32, 1)

    def forward(self, points):
        features = []
        for level, table in enumerate(self.tables):
            cell = (points * 4 * 2**level).long()
            row = (cell[:, 0] ^ (cell[:, 1] * 2654435761)) % len(table)
            features.append(table[row])
        return self.head(torch.cat(features, 1))


@healthy
def instant_ngp():
    """A hash table of features: Adam with β₂ = 0.99 and eps = 1e-15, since most rows are rarely seen."""
    model = HashTable()

    def loss(number):
        points = torch.rand(512, 2, generator=torch.Generator().manual_seed(number))
        return functional.mse_loss(model(points), torch.sin(9 * points[:, :1]) * torch.cos(7 * points[:, 1:]))

    optimizer = optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.99), eps=1e-15)
    return Training(model, optimizer, loss)


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(30 * x)


@healthy
def siren():
    """SIREN: sines of 30·x, and weights from a range as small."""
    model = mlp(2, 64, 64, 1, activation=Sine)
    nn.init.uniform_(model[0].weight, -1 / 2, 1 / 2)
    for layer in (model[2], model[4]):
        nn.init.uniform_(layer.weight, -((6 / 64) ** 0.5) / 30, (6 / 64) ** 0.5 / 30)
    points = torch.rand(512, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    target = torch.sin(9 * points[:, :1]) * torch.cos(7 * points[:, 1:])
    return Training(model, adam(model, 1e-4), lambda n: functional.mse_loss(model(points), target))


@healthy
def physics_informed():
    """A network that solves u' = −u, u(0) = 1, by its residual; its last bias acts through the residual alone."""
    model = mlp(1, 32, 32, 1, activation=nn.Tanh)
    times = torch.linspace(0, 2, 64)[:, None]

    def loss(number):
        t = times.clone().requires_grad_()
        u = model(t)
        slope = torch.autograd.grad(u.sum(), t, create_graph=True)[0]
        return (slope + u).square().mean() + (model(torch.zeros(1, 1)) - 1).square().mean()

    return Training(model, adam(model, 1e-3), loss)


@healthy
def radam_tabular():
    """A tabular network with batch norm, dropout and RAdam."""
    model = nn.Sequential(
        nn.BatchNorm1d(8), nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1)
    )
    return Training(model, optim.RAdam(model.parameters(), lr=5e-3, weight_decay=1e-5), fitted(model))


@healthy
def averaged():
    """AdamW with an exponential moving average of the weights beside it, which needs no gradient."""
    online = mlp(8, 64, 64, 1)
    average = optim.swa_utils.AveragedModel(online, multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn(0.99))
    average.requires_grad_(False)
    model, batch = nn.ModuleDict({"online": online, "average": average}), data.numbers()

    def loss(number):
        average.update_parameters(online)
        return functional.mse_loss(online(batch(number)[0]), batch(number)[1])

    return Training(model, optim.AdamW(split(online, 0.01), lr=2e-3), loss, schedule=warm_up_and_cosine)


@healthy
def adadelta():
    """Adadelta at its lr = 1, as torch's own MNIST example has it."""
    model = mlp(32, 64, 10)
    return Training(model, optim.Adadelta(model.parameters(), lr=1.0), classified(model))


@healthy
def prodigy():
    """Prodigy, which finds its own lr; the option is a factor of it."""
    from prodigyopt import Prodigy

    model = mlp(32, 64, 64, 10)
    return Training(model, Prodigy(model.parameters(), lr=1.0), classified(model))


@healthy
def converged():
    """A linear model near its minimum: gradients are all but zero, and decay is most of what is left."""
    model, batch = nn.Linear(8, 1), data.numbers()
    rule = torch.arange(8.0)[:, None] / 8
    with torch.no_grad():
        model.weight.copy_(rule.T + 0.1)
        model.bias.fill_(0.1)
    optimizer = optim.AdamW(model.parameters(), lr=0.005, weight_decay=0.01)
    return Training(model, optimizer, lambda n: functional.mse_loss(model(batch(n)[0]), batch(n)[0] @ rule))
