"""All set-ups: importing this enters them into ``HEALTHY`` and ``FAULTS``."""

from tests.library.zoo.faulty import gradients, precision, settings, wiring
from tests.library.zoo.healthy import adapters, diffusion, language, plain, vision, wrapped

MODULES = adapters, diffusion, language, plain, vision, wrapped, gradients, precision, settings, wiring
