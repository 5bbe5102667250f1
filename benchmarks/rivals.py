"""The rival of ``scaleinv.sweep``: optax, the whole training in one ``jax.jit(jax.vmap(...))``.  Without torch."""

import time

import jax
import numpy as np
import optax
from jax import numpy as jnp
from sklearn.datasets import load_digits

ACTIVATIONS = {"ReLU": jax.nn.relu, "Tanh": jnp.tanh}


def optax_sweep(activation, parameters, inputs, targets):
    """The compiled function from learning rates (members,) to losses (members, steps).

    Args:
        activation: a name in ACTIVATIONS.
        parameters: of all members' first step, (w1, b1, w2, b2): x·w1 + b1 are the hidden layer's inputs.
        inputs, targets: the batches, (steps, batch, 64) and (steps, batch).
    """

    def loss(parameters, x, y):
        w1, b1, w2, b2 = parameters
        logits = ACTIVATIONS[activation](x @ w1 + b1) @ w2 + b2
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def train(lr, parameters, inputs, targets):
        optimizer = optax.adam(lr)

        def step(carry, batch):
            parameters, state = carry
            value, grads = jax.value_and_grad(loss)(parameters, *batch)
            updates, state = optimizer.update(grads, state, parameters)
            return (optax.apply_updates(parameters, updates), state), value

        return jax.lax.scan(step, (parameters, optimizer.init(parameters)), (inputs, targets))[1]

    compiled = jax.jit(jax.vmap(train, in_axes=(0, None, None, None)))
    arrays = jax.tree.map(jnp.asarray, (tuple(parameters), inputs, targets))
    return lambda lrs: np.asarray(compiled(jnp.asarray(lrs, jnp.float32), *arrays))


def first_result(lrs, width=32, steps=100, batch=64):
    """Seconds to the losses of all members, from nothing but the imports: digits, batches, parameters, compilation."""
    start = time.perf_counter()
    digits, random = load_digits(), np.random.RandomState(0)
    rows = random.randint(len(digits.target), size=(steps, batch))
    inputs = (digits.data / 16).astype(np.float32)[rows]
    parameters = [
        random.uniform(-(m**-0.5), m**-0.5, shape).astype(np.float32)  # as torch.nn.Linear draws them
        for m, n in [(64, width), (width, 10)]
        for shape in [(m, n), (n,)]
    ]
    losses = optax_sweep("ReLU", parameters, inputs, digits.target[rows])(lrs)
    assert losses.shape == (len(lrs), steps)
    return time.perf_counter() - start
