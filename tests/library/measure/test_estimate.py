"""Estimators of signal-to-noise ratio and autocorrelation, on gradients of which both are known."""

import math
import re

import pytest
import torch

from scaleinv.laws import update_rms
from scaleinv.measure import autocorrelation, signal_to_noise


def stack(steps, shape, snr=0.0, rho=0.0, seed=0):
    """AR(1) gradients of deviation 1 and mean ±snr, shape (steps, *shape)."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(steps, *shape, generator=generator, dtype=torch.float64)
    for before, now in zip(draws, draws[1:]):
        now.mul_(math.sqrt(1 - rho**2)).add_(rho * before)
    signs = 1 - 2 * (torch.arange(math.prod(shape)) % 2).reshape(shape)
    return draws + snr * signs


# 20000 coordinates: a standard error below 1/√(20000·T), so tolerances are what the bias may be.


@pytest.mark.parametrize("steps", [10, 100])
@pytest.mark.parametrize("snr", [0.3, 1.0, 3.0])
def test_the_ratio_is_estimated(steps, snr):
    assert signal_to_noise(stack(steps, (200, 100), snr)) == pytest.approx(snr, rel=1.2 / steps)


@pytest.mark.parametrize("steps", [3, 10, 100])
def test_white_noise_shows_neither_signal_nor_autocorrelation(steps):
    noise = stack(steps, (20000,))
    assert signal_to_noise(noise) < 0.1
    for lag in {1, steps - 2}:
        assert autocorrelation(noise, lag) == pytest.approx(0, abs=0.02)


def test_sabotage_without_its_corrections_a_short_stack_shows_both():
    noise = stack(10, (20000,))
    share = (noise.mean(dim=0).square() / noise.square().mean(dim=0)).mean()
    d = noise - noise.mean(dim=0)
    rho = ((d[1:] * d[:-1]).sum(dim=0) / d.square().sum(dim=0)).mean()
    assert share.item() == pytest.approx(1 / 10, rel=0.05) and rho.item() == pytest.approx(-1 / 10, rel=0.05)


@pytest.mark.parametrize("rho", [-0.5, 0.5, 0.8])
def test_the_autocorrelation_is_estimated_up_to_the_documented_bias(rho):
    gradients = stack(100, (20000,), rho=rho)
    assert autocorrelation(gradients) == pytest.approx(rho * (1 - 3 / 100), abs=0.006)
    assert autocorrelation(gradients, lag=2) == pytest.approx(rho**2, abs=0.06)
    assert autocorrelation(gradients + 5) == pytest.approx(autocorrelation(gradients), rel=1e-9)


def test_autocorrelated_noise_passes_for_the_documented_signal():
    s = signal_to_noise(stack(100, (20000,), rho=0.5))
    assert s**2 / (1 + s**2) == pytest.approx(2 * 0.5 / 0.5 / 100, rel=0.1)


def test_what_a_single_coordinate_of_noise_shows():
    noise = stack(100, (2000,))
    average = sum(signal_to_noise(column) for column in noise.T) / 2000
    assert average == pytest.approx(0.4 / math.sqrt(100), rel=0.15)


@pytest.mark.parametrize("snr, rho", [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (0.0, 0.5)])
def test_with_the_estimates_the_law_predicts_the_update_of_a_tensor_whose_coordinates_differ(snr, rho):
    beta1, beta2, steps, shape = 0.9, 0.99, 1500, (30, 50)
    scales = torch.exp(3 * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    gradients = stack(steps, shape, rho=rho) + snr * torch.linspace(0, 2, shape[1], dtype=torch.float64)
    gradients *= scales
    w = torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = torch.optim.Adam([w], 1.0, betas=(beta1, beta2), eps=0.0)
    squares = []
    for gradient in gradients:
        w.grad, before = gradient, w.detach().clone()
        optimizer.step()
        squares.append((w.detach() - before).square().mean())
    measured = torch.stack(squares[700:]).mean().sqrt().item()
    estimates = {"snr": signal_to_noise(gradients), "autocorrelation": autocorrelation(gradients)}
    assert measured == pytest.approx(update_rms(beta1, beta2, **estimates).item(), rel=0.02)


def test_neither_depends_on_the_scale_of_a_coordinate_even_an_extreme_one():
    gradients = stack(20, (50,), 0.5, 0.3)
    scaled = gradients * torch.logspace(-200, 200, 50, dtype=torch.float64)
    assert signal_to_noise(scaled) == pytest.approx(signal_to_noise(gradients), rel=1e-9)
    assert autocorrelation(scaled) == pytest.approx(autocorrelation(gradients), rel=1e-9)


def test_coordinates_without_gradient_are_left_out():
    gradients = stack(20, (50,), 0.5, 0.3)
    padded = torch.cat([gradients, torch.zeros(20, 30)], dim=1)
    assert signal_to_noise(padded) == signal_to_noise(gradients)
    assert autocorrelation(padded) == pytest.approx(autocorrelation(gradients), rel=1e-12)


def test_gradients_that_never_change_and_none_at_all():
    assert signal_to_noise(torch.full((5, 3), 0.1)) == math.inf
    assert math.isnan(autocorrelation(torch.full((5, 3), 0.1)))
    assert math.isnan(signal_to_noise(torch.zeros(5, 3))) and math.isnan(autocorrelation(torch.zeros(5, 3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_floating_dtype_and_a_scalar_parameter_are_allowed(dtype):
    gradients = stack(50, (4, 3), 1.0).to(dtype)
    assert signal_to_noise(gradients) == signal_to_noise(gradients.double())
    assert autocorrelation(gradients[:, 0, 0]) == autocorrelation(gradients[:, :1, 0].double())


WRONG = [
    (TypeError, lambda: signal_to_noise([1.0, 2.0]), "gradients=[1.0, 2.0] is not a floating tensor"),
    (TypeError, lambda: signal_to_noise(torch.ones(3, dtype=torch.int64)), "is not a floating tensor"),
    (TypeError, lambda: autocorrelation(torch.ones(9), lag=1.0), "lag=1.0 is not a whole number"),
    (ValueError, lambda: autocorrelation(torch.ones(9), lag=0), "lag=0 is not positive"),
    (ValueError, lambda: signal_to_noise(torch.ones(1, 4)), "shape (1, 4): needs at least 2"),
    (ValueError, lambda: signal_to_noise(torch.tensor(1.0)), "shape (): needs at least 2"),
    (ValueError, lambda: autocorrelation(torch.ones(4, 2), lag=3), "shape (4, 2): needs at least 5"),
    (ValueError, lambda: signal_to_noise(torch.tensor([1.0, math.nan])), "leave those steps out"),
]


@pytest.mark.parametrize("error, call, message", WRONG)
def test_what_cannot_be_estimated_is_refused(error, call, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
