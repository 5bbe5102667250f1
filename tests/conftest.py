"""Hypothesis draws the same examples in every run: what passes here passes in CI."""

from hypothesis import settings

settings.register_profile("scaleinv", deadline=None, derandomize=True)
settings.load_profile("scaleinv")
