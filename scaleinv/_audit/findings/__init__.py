"""What is unusual about an audit, each in a sentence, with what to do about it.

A kind of finding is a look: a small function from the audit's numbers to observations.  Its thresholds stand in it,
each with its reason.  ``rounding`` has the looks at number formats, ``gradients`` at gradients that are missing, zero,
piled up or clipped, ``decay`` and ``settings`` at hyperparameters, ``steps`` at how far tensors move and how large
they are, ``structure`` at which optimizer holds what.
"""

from scaleinv._audit.findings import decay, gradients, rounding, settings, steps, structure
from scaleinv._audit.findings.finding import Finding, Look, Severity
from scaleinv._audit.measurements import Measurements

__all__ = ["KINDS", "Finding", "Severity", "findings_of"]

KINDS: dict[str, Look] = {
    look.__name__: look
    for look in (
        rounding.not_finite, rounding.next_step_is_infinite, rounding.eps_rounds_to_zero, rounding.lost_to_rounding,
        rounding.decay_lost_to_rounding, rounding.cannot_forget,
        gradients.nothing_trains, gradients.stuck_at_zero, gradients.no_gradient, gradients.gradients_not_reset,
        gradients.large_gradients, gradients.clipped_before_unscaling, gradients.clipping_sets_the_step,
        gradients.clipping_cancels,
        settings.lr_of_different_units, settings.lr_is_zero, settings.lr_of_groups, settings.most_below_eps,
        settings.long_memory, settings.muon_elsewhere, decay.much_decay,
        steps.moves_unlike_the_rest, steps.all_move_far, steps.all_move_little, steps.large_gains,
        steps.large_weights, steps.zero,
        structure.left_out, structure.unregistered_layers, structure.held_twice, structure.not_frozen,
        structure.unit_not_known, structure.not_checked,
    )
}  # fmt: skip


def findings_of(audit: Measurements) -> list[Finding]:
    """All findings, the gravest first."""
    findings = [
        Finding(severity, text, parameters, size, kind, remedy)
        for kind, look in KINDS.items()
        for severity, text, parameters, size, remedy in look(audit)
    ]
    return sorted(findings, key=lambda finding: (-finding.severity, -finding.size))
