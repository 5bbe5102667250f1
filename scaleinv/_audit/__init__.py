"""An audit: how large each tensor is, how far a step moves it, what decides that, and what is unusual about it.

Begin with ``audit_model``: ``audit`` itself.  It finds each parameter (``places``) and what trains it (``training``),
and makes its ``row`` of what ``measured_step``, ``predicted_step``, ``decay`` and ``eps`` compute, with the sums in
``amounts``.  All rows are the ``measurements``, which ``findings`` reads.  ``contents`` is what the ``report`` in a
terminal and the ``page`` of a notebook show of both, with identical blocks as one by ``folding``; ``picture`` draws
them.  ``logged`` is for a logger, ``document`` is all of it as plain data, and ``settings`` mutes findings;
``comparison`` shows two audits side by side, of which one may come from a file, a ``baseline``.  ``saved`` audits the
files of a training instead of a live model.
"""

from scaleinv._audit.audit_model import Audit, audit
from scaleinv._audit.comparison import ComparedRow, Comparison, compare
from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.folding import brief_names, fold_names
from scaleinv._audit.logged import FLAT_COLUMNS
from scaleinv._audit.row import Row
from scaleinv._audit.saved import (
    Outline,
    audit_saved,
    build_outline,
    fitting_classes,
    load_plain,
    load_safetensors,
    outline_of_transformers,
    read_checkpoint,
)
from scaleinv._audit.settings import check_mutes, fails, project_settings
from scaleinv._audit.unwrapped import unwrapped
from scaleinv._stepping import stepping_class

__all__ = [
    "FLAT_COLUMNS", "Audit", "ComparedRow", "Comparison", "Finding", "Outline", "Row", "Severity", "audit",
    "audit_saved", "brief_names", "build_outline", "check_mutes", "compare", "fails", "fitting_classes", "fold_names",
    "load_plain", "load_safetensors", "outline_of_transformers", "project_settings", "read_checkpoint",
    "stepping_class", "unwrapped",
]  # fmt: skip
