"""``sweep``: every point of a grid of hyperparameters and seeds, trained as a few batched runs.

Read ``run_sweep`` first; then ``grid`` on ``kinds``, what a sweep varies; ``inspection``, what it refuses to train;
``jobs`` and ``store``, how members are divided and kept.  ``ways`` finds out how a live optimizer can train members,
``members`` rewrites them in common units, ``live`` makes the optimizers.  ``ensemble`` trains a job, on models and
batches of ``sources`` and parameters in the form of ``packing``.  It is fast by ``replay``, a small compiler of the
forward and backward pass, with random numbers of ``draws``, and ``columns``.
"""

from scaleinv._sweep.run_sweep import sweep

__all__ = ["sweep"]
