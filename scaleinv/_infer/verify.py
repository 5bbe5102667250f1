"""Whether units hold: runs rescaled by them must agree, also with values that matter, and over a longer run."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from scaleinv._entries import get_entry
from scaleinv._hyperparameters import Values
from scaleinv._infer.agreement import Agreement
from scaleinv._infer.deviation import ROUNDING, Deviation
from scaleinv._infer.kinds import runs_of_kinds, shares_of_kinds
from scaleinv._infer.outcome import Outcome
from scaleinv._infer.probes import Probe, value_that_matters
from scaleinv._infer.problem import LONG, STEPS
from scaleinv._infer.runs import ByName, RescaledRuns, Runner
from scaleinv._infer.state_units import state_units
from scaleinv.units import ONE


@dataclass(frozen=True)
class Bench:
    """What an experiment works on.

    Attributes:
        runner: the optimizer under test, as it is.
        exact: the same, as precise as it can be.
        given: the values that the user passed, or what is tested in their place.
        base: the same in range, and switched on.
        keys: the hyperparameters, or entries of them, to determine.
    """

    runner: Runner
    exact: Runner
    given: Values
    base: Values
    keys: list[str]


@dataclass(frozen=True)
class Candidate:
    """Units to verify.

    Attributes:
        units: key → unit, of all that has one so far.
        certain: the keys whose unit no other would do for.
        probes: key → values with which it matters.
        inconsistent: key → residual, of what no unit explains.
    """

    units: ByName
    certain: set[str]
    probes: dict[str, Probe]
    inconsistent: dict[str, float]

    def without(self, inconsistent: dict[str, float]) -> "Candidate":
        """The candidate in which these have no unit either."""
        units = {key: unit for key, unit in self.units.items() if key not in inconsistent}
        return replace(self, units=units, inconsistent=self.inconsistent | inconsistent)

    @property
    def determined(self) -> ByName:
        return {key: unit for key, unit in self.units.items() if key in self.certain}


def verified(bench: Bench, candidate: Candidate) -> Outcome:
    """The outcome of verifying a candidate: a hyperparameter whose probes alone deviate loses its unit, by itself."""
    verification = _Verification(bench)
    while True:
        whole = verification.of_whole_runs(candidate.units)
        if whole.deviation.share > ROUNDING:
            return verification.refuted(candidate, whole)
        shares = verification.of_probes(candidate)
        faults = {key: share for key, share in shares.items() if share > ROUNDING}
        if not faults:
            return verification.confirmed(candidate, whole, shares)
        candidate = candidate.without(verification.blamed(candidate, faults))


class _Whole(NamedTuple):
    """Deviations of runs in which no hyperparameter is made to matter: short ones and the longest, which is kept."""

    short: Deviation
    long: Deviation
    runs: RescaledRuns

    @property
    def deviation(self) -> Deviation:
        return max(self.short, self.long)


class _Verification:
    """Deviations of rescaled runs, and what follows from them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.agreement = Agreement(bench.runner, bench.exact)
        self.longest = None if bench.runner.trajectory(bench.base, steps=LONG) is None else LONG

    def of_whole_runs(self, units: ByName) -> _Whole:
        given, base = self.bench.given, self.bench.base
        short = max(self.agreement.deviation(values, units) for values in (given, base))
        runs = self.bench.runner.rescaled_runs(base, units, self.longest)
        return _Whole(short, self.agreement.deviation(base, units, self.longest), runs)

    def of_probes(self, candidate: Candidate) -> dict[str, float]:
        """key → the share by which runs deviate where it matters, with all others that have no unit at 0 if that
        helps."""
        without_unit = [key for key in self.bench.keys if key not in candidate.units]
        return {
            key: self.agreement.share(probe, candidate.units, [other for other in without_unit if other != key])
            for key, probe in candidate.probes.items()
            if key not in candidate.inconsistent
        }

    def blamed(self, candidate: Candidate, faults: dict[str, float]) -> dict[str, float]:
        """key → share, of those at fault: eps if a probe agrees without it, else the hyperparameter of the probe.

        A constant added to several things is the usual fault, which others only bring into play.
        """
        usual = [key for key in self.bench.keys if "eps" in key and key not in candidate.inconsistent]
        blamed: dict[str, float] = {}
        for key, share in faults.items():
            by_eps = usual and key not in usual
            if by_eps and self.agreement.share(candidate.probes[key], candidate.units, usual) <= ROUNDING:
                blamed |= dict.fromkeys(usual, share)
            else:
                blamed[key] = share
        return blamed

    def refuted(self, candidate: Candidate, whole: _Whole) -> Outcome:
        share, where = whole.deviation
        reason = f"units that fit small changes do not hold at large ones: runs deviate by {share:.2g} with {where}"
        if whole.short.share <= ROUNDING:
            reason = f"units of the first {STEPS} steps do not hold over {LONG}: runs deviate by {share:.2g}"
        return Outcome(
            "inconsistent",
            share,
            reason,
            inconsistent=candidate.inconsistent,
            nearby=candidate.determined,
            probed=self._probed(candidate),
        )

    def confirmed(self, candidate: Candidate, whole: _Whole, shares: dict[str, float]) -> Outcome:
        given, base = self.bench.given, self.bench.base
        units, inconsistent = candidate.determined, candidate.inconsistent
        kinds = shares_of_kinds(self.agreement, (given, base), candidate.units)
        holding = [share for share in kinds.values() if share <= ROUNDING]
        residual = max(whole.deviation.share, *shares.values(), *holding, self.agreement.low_precision)
        undetermined = tuple(key for key in self.bench.keys if key not in units and key not in inconsistent)
        reasons = []
        if undetermined:
            reasons.append(f"Undetermined, being without effect or not told apart: {', '.join(undetermined)}.")
        if inconsistent:
            reasons.append(f"Inconsistent when made to matter or changed: {', '.join(inconsistent)}.")
        return Outcome(
            "rounding" if residual else "bitwise",
            residual,
            " ".join(reasons),
            units=units,
            # where hyperparameters are not told apart, the state depends on how they share a unit: as stand-ins do
            state={name: unit for name, unit in self._state(candidate, whole).items() if name not in given},
            stand_ins={key: candidate.units.get(key, ONE) for key in undetermined},
            kept=self._kept(candidate),
            undetermined=undetermined,
            inconsistent=inconsistent,
            probed=self._probed(candidate),
            not_for={kind: share for kind, share in kinds.items() if share > ROUNDING},
        )

    def _state(self, candidate: Candidate, whole: _Whole) -> ByName:
        """The units of the state, which may have other buffers for parameters of other kinds."""
        return state_units([whole.runs, *runs_of_kinds(self.bench.runner, self.bench.base, candidate.units)])

    def _kept(self, candidate: Candidate) -> dict[str, float]:
        """key → value, of what is inconsistent when changed, but matters as it is, where the whole runs agree."""
        given, base = self.bench.given, self.bench.base
        values = {key: get_entry(given, key) for key in candidate.inconsistent}
        at_rest = {key: value for key, value in values.items() if value == get_entry(base, key)}
        matters = {key: value_that_matters(self.bench.runner, base, key) for key in at_rest}
        return {key: at_rest[key] for key, found in matters.items() if found and found[0] == at_rest[key]}

    def _probed(self, candidate: Candidate) -> tuple[Values, ...]:
        base = self.bench.base
        return base, *(probe.matters for probe in candidate.probes.values() if probe.matters != base)
