from scaleinv._report.table import table, value_text

__all__ = ["table", "value_text"]
