"""What every report shares: tables, hyperparameter values and percentages, all in ``table``."""

from scaleinv._report.table import percent, table, value_text

__all__ = ["percent", "table", "value_text"]
