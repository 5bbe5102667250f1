"""What an experiment shows, key by key; ``result`` puts it together for the user."""

from dataclasses import dataclass, field, replace

from scaleinv._hyperparameters import Values
from scaleinv._infer.runs import ByName


@dataclass(frozen=True)
class Outcome:
    """The attributes of ``InferredUnits``, where a hyperparameter is a float or an entry of a tuple such as
    ``betas[0]``, and ``units`` has those that are determined."""

    verdict: str
    residual: float
    reason: str
    units: ByName = field(default_factory=dict)
    state: ByName = field(default_factory=dict)
    undetermined: tuple[str, ...] = ()
    inconsistent: dict[str, float] = field(default_factory=dict)
    suspect: str = ""
    nearby: ByName = field(default_factory=dict)
    probed: tuple[Values, ...] = ()
    stand_ins: ByName = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)
    at_zero: dict[str, "Outcome"] = field(default_factory=dict)
    not_for: dict[str, float] = field(default_factory=dict)

    @property
    def consistent(self) -> bool:
        return self.verdict != "inconsistent"

    def without_suspect(self, suspect: str, rest: "Outcome") -> "Outcome":
        """This inconsistent outcome, with what is left of it where the suspect is 0: the rest."""
        reason = f"{self.reason}. With {suspect}=0 it is consistent"
        return replace(rest, verdict=self.verdict, residual=self.residual, reason=reason, suspect=suspect)
