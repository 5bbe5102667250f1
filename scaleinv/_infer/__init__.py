from scaleinv._infer.infer import infer_units
from scaleinv._infer.report import units_report
from scaleinv._infer.result import InferredUnits

__all__ = ["InferredUnits", "infer_units", "units_report"]
