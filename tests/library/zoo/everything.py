"""All set-ups: importing this enters them into ``HEALTHY`` and ``FAULTS``."""

from tests.library.zoo.faulty import gradients, precision, settings, wiring
from tests.library.zoo.healthy import adapters, diffusion, language, plain, vision, wrapped

__all__ = [
    "adapters",
    "diffusion",
    "gradients",
    "language",
    "plain",
    "precision",
    "settings",
    "vision",
    "wiring",
    "wrapped",
]
