"""The command line: ``main`` reads the words, and a module for each command computes its report.

Nothing of torch is imported before a command runs, so that ``--help`` and ``--version`` are quick.
"""

from scaleinv._cli.main import main, run
from scaleinv._cli.words import import_optimizer, parse_hyperparameters

__all__ = ["import_optimizer", "main", "parse_hyperparameters", "run"]
