"""An audit: how large each tensor is, how far a step moves it, what decides that, and what is unusual about it.

Begin with ``audit_model``: ``audit`` itself.  It finds each parameter (``places``) and what trains it (``training``),
and makes its ``row`` of what ``measured_step``, ``predicted_step``, ``decay`` and ``eps`` compute, with the sums in
``amounts``.  All rows are the ``measurements``, which ``findings`` reads.  ``contents`` is what the ``report`` in a
terminal and the ``page`` of a notebook show of both, with identical blocks as one by ``folding``; ``picture`` draws
them.  ``saved`` audits two files instead of a live model.
"""

from scaleinv._audit.audit_model import Audit, audit
from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.row import Row
from scaleinv._audit.saved import audit_saved

__all__ = ["Audit", "Finding", "Row", "Severity", "audit", "audit_saved"]
