"""What ``Recorder`` measures with: a ``snapshot`` of the parameters before a step, and the ``heat_map`` of a run."""

from scaleinv._recording.heat_map import plot_recording
from scaleinv._recording.snapshot import Snapshot, Vector

__all__ = ["Snapshot", "Vector", "plot_recording"]
