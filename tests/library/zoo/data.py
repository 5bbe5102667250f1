"""Small data that can be learned: each function makes the few batches that a training sees again and again."""

import torch

BATCHES = 4


def cycled(batches):
    """Batch number → batch."""
    return lambda number: batches[number % len(batches)]


def tokens(vocabulary=64, length=32, size=8, seed=1):
    """Sequences in which each token, nine times of ten, decides the next."""
    generator = torch.Generator().manual_seed(seed)
    following = torch.randperm(vocabulary, generator=generator)
    batches = []
    for _ in range(BATCHES):
        columns = [torch.randint(vocabulary, (size,), generator=generator)]
        for _ in range(length - 1):
            random = torch.randint(vocabulary, (size,), generator=generator)
            surprising = torch.rand(size, generator=generator) < 0.1
            columns.append(torch.where(surprising, random, following[columns[-1]]))
        batches.append(torch.stack(columns, 1))
    return cycled(batches)


def images(classes=10, channels=3, side=16, size=16, seed=1):
    """(images, labels): a picture for each class, under noise."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randn(classes, channels, side, side, generator=generator)
    batches = []
    for _ in range(BATCHES):
        labels = torch.randint(classes, (size,), generator=generator)
        noise = torch.randn(size, channels, side, side, generator=generator)
        batches.append((0.7 * pictures[labels] + 0.7 * noise, labels))
    return cycled(batches)


def smooth_images(channels=3, side=16, size=8, seed=1):
    """Images of soft blobs between −1 and 1, without labels."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(BATCHES):
        coarse = torch.randn(size, channels, 4, 4, generator=generator)
        batches.append(torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear").tanh())
    return cycled(batches)


def vectors(inputs=32, outputs=10, size=64, seed=1):
    """(inputs, labels): a linear rule."""
    generator = torch.Generator().manual_seed(seed)
    rule = torch.randn(inputs, outputs, generator=generator)
    batches = [torch.randn(size, inputs, generator=generator) for _ in range(BATCHES)]
    return cycled([(batch, (batch @ rule).argmax(1)) for batch in batches])


def numbers(inputs=8, size=64, seed=1):
    """(inputs, targets): a smooth function with values of about 1."""
    generator = torch.Generator().manual_seed(seed)
    rule = torch.randn(inputs, generator=generator)
    batches = [torch.randn(size, inputs, generator=generator) for _ in range(BATCHES)]
    return cycled([(batch, torch.sin(batch @ rule)[:, None]) for batch in batches])
