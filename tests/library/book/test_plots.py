"""The look of the figures."""

import itertools
import math

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_rgb

from scaleinv.book import plots


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """The contrast ratio of the Web Content Accessibility Guidelines, which ask for 3 for graphics."""
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def grey(colour):
    """A colour's level of grey, from 0 to 255."""
    y = luminance(colour)
    return 255 * (12.92 * y if y <= 0.0031308 else 1.055 * y ** (1 / 2.4) - 0.055)


def test_the_contrast_ratio_has_its_known_values():
    assert contrast("white", "black") == pytest.approx(21) and contrast("white", "white") == 1
    assert contrast("#777777", "white") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("name", [*plots.COLOURS, "INK"])
@pytest.mark.parametrize("background", ["#ffffff", "#121212"])
def test_every_colour_is_legible_on_light_and_on_dark(name, background):
    assert contrast(plots.COLOURS.get(name, plots.INK), background) >= 3


def test_every_optimizer_has_its_own_style():
    assert {"Adam", "AdamW", "SGD"} <= set(plots.COLOURS)
    styles = [plots.style(name) for name in plots.COLOURS]
    assert [style["label"] for style in styles] == list(plots.COLOURS)
    for key in ("color", "marker"):
        assert len({style[key] for style in styles}) == len(styles)
    assert {style["color"] for style in styles}.isdisjoint({plots.INK})


def test_colours_also_differ_in_grey():
    """A little: the contrasts above leave fifty levels of grey for all of them. Markers do the rest."""
    assert min(abs(grey(a) - grey(b)) for a, b in itertools.combinations(plots.COLOURS.values(), 2)) >= 4


def test_a_figure_has_its_labels_and_a_line_in_every_style():
    try:
        _, ax = plots.figure("step (1)", "loss (L)")
        lines = [ax.plot([1, 2], [n, n], **plots.style(name))[0] for n, name in enumerate(plots.COLOURS)]
        assert [line.get_label() for line in lines] == list(plots.COLOURS)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("step (1)", "loss (L)")
        fig, axes = plots.figure("step (1)", "loss (L)", "change (1)")
        assert [ax.get_ylabel() for ax in axes] == ["loss (L)", "change (1)"]
        assert [ax.get_xlabel() for ax in axes] == ["", "step (1)"]
        assert math.isclose(fig.get_facecolor()[3], 0)  # what lies behind shows through
    finally:
        plt.close("all")
