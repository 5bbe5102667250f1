"""Audits in the training loops of other libraries: of transformers in ``trainer``, of Lightning in ``lightning``.

Each needs its library; the names here are imported when they are first used.

>>> import scaleinv.integrations
>>> scaleinv.integrations.__all__
['LightningAudit', 'TrainerAudit']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaleinv.integrations.lightning import LightningAudit
    from scaleinv.integrations.trainer import TrainerAudit

__all__ = ["LightningAudit", "TrainerAudit"]

_HOMES = {"LightningAudit": "lightning", "TrainerAudit": "trainer"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"scaleinv.integrations.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'scaleinv.integrations' has no attribute {name!r}", name=name)
