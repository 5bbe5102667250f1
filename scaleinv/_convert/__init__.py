from scaleinv._convert.report import convert_report
from scaleinv._convert.settings import convert, convert_value, defaults_of

__all__ = ["convert", "convert_report", "convert_value", "defaults_of"]
