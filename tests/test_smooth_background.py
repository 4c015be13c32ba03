"""A smooth background of few coefficients: its adjoint, its polynomials, and the likelihood's gradient in them."""

import numpy as np
import pytest

from ptycho.reconstruction.smooth_background import SmoothBackground
from tests.test_joint_likelihood import N, inner, likelihood_of, parameters_of


@pytest.mark.parametrize("order", [1, 4])
def test_a_smooth_background_and_its_adjoint_agree(order):
    smooth, rng = SmoothBackground(N, order), np.random.default_rng(6)
    coefficients, image = rng.normal(size=smooth.shape), rng.normal(size=(N, N))
    background = smooth(coefficients)
    assert background.shape == (N, N)
    assert inner(background, image) == pytest.approx(inner(coefficients, smooth.adjoint(image)), rel=1e-12)


def test_a_smooth_background_is_a_polynomial_of_its_coefficients():
    np.testing.assert_allclose(SmoothBackground(N, 4)(np.full((4, 4), 0.7)), 0.7)
    rows = (np.arange(N) + 0.5) / N
    ramp = SmoothBackground(N, 4)(np.array([[0.0], [1.0], [2.0], [3.0]]) + np.zeros(4))
    np.testing.assert_allclose(ramp, 3 * rows[:, None] + np.zeros(N))  # equidistant coefficients: a straight line
    assert (SmoothBackground(N, 5)(np.eye(5)) > 0).all()


def test_the_gradient_in_the_coefficients_agrees_with_finite_differences():
    likelihood, smooth, rng = likelihood_of(), SmoothBackground(N, 3), np.random.default_rng(7)
    coefficients, direction, step = rng.uniform(0, 1, (3, 3)), rng.normal(size=(3, 3)), 1e-5

    def evaluate(numbers):
        return likelihood.evaluate(parameters_of(likelihood, double=True, background=smooth(numbers)), ["background"])

    gradient = smooth.adjoint(evaluate(coefficients)[1].background)
    slope = (evaluate(coefficients + step * direction)[0] - evaluate(coefficients - step * direction)[0]) / (2 * step)
    assert slope == pytest.approx(inner(gradient, direction), rel=1e-5)
