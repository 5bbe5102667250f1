from scaleinv._audit.audit_model import Audit, audit
from scaleinv._audit.findings import percent
from scaleinv._audit.saved import audit_saved

__all__ = ["Audit", "audit", "audit_saved", "percent"]
