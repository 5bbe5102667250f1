from scaleinv._rule.rule import Optimizer, apply_updates, norm, power, rule

__all__ = ["Optimizer", "apply_updates", "norm", "power", "rule"]
