"""The model under time-ordered references: its order, its first samples, its gaps."""

from __future__ import annotations

import numpy as np
import pytest

from shared.drift import autoregression
from shared.drift.autoregression import Autoregression, fit_autoregression
from tests.shared.drift.series import deviation, series


@pytest.mark.parametrize("coefficients", [[0.3], [0.9], [1.2, -0.4], [0.5, 0.3]])
def test_order_and_coefficients_are_found(coefficients):
    orders = []
    for z in series(np.random.default_rng(0), 2000, coefficients, 20).T:
        model, _ = fit_autoregression(z)
        orders.append(model.order)
        if model.order == len(coefficients):
            np.testing.assert_allclose(model.coefficients, coefficients, atol=0.1)
    assert np.mean(np.array(orders) == len(coefficients)) >= 0.85


def test_white_noise_constants_and_short_series_have_no_model():
    rng = np.random.default_rng(0)
    assert np.mean([fit_autoregression(rng.normal(size=2000))[0].order == 0 for _ in range(20)]) >= 0.9
    assert fit_autoregression(np.zeros(500))[0].order == 0
    assert fit_autoregression(rng.normal(size=49).cumsum())[0].order == 0
    assert fit_autoregression(np.full(500, np.nan))[0].order == 0
    # one coefficient for 50 values, at most
    assert fit_autoregression(series(rng, 99, [1.2, -0.4])[:, 0])[0].order == 1


def test_a_fit_in_slices_is_the_fit_of_all_rows(monkeypatch):
    z = series(np.random.default_rng(1), 3000, [1.2, -0.4])[:, 0]
    z[::97] = np.nan
    whole, _ = fit_autoregression(z)
    monkeypatch.setattr(autoregression, "SLICE", 257)
    cut, _ = fit_autoregression(z)
    np.testing.assert_allclose(cut.coefficients, whole.coefficients, rtol=1e-9)
    assert cut.intercept == pytest.approx(whole.intercept, abs=1e-9)


def test_factors_turn_residuals_into_errors_of_models_that_had_not_seen_them():
    z = series(np.random.default_rng(2), 60, [0.8])[:, 0]
    model, factors = fit_autoregression(z)
    assert model.order == 1
    rows, y = np.column_stack((np.ones(59), z[:-1])), z[1:]
    for k in (0, 20, 58):
        others = np.arange(59) != k
        intercept, slope = np.linalg.lstsq(rows[others], y[others], rcond=None)[0]
        residual = y[k] - model.intercept - model.coefficients[0] * z[k]
        assert residual * factors[k + 1] == pytest.approx(y[k] - intercept - slope * z[k], rel=1e-9)


def test_first_errors_are_as_large_as_residuals_and_do_not_depend_on_each_other():
    coefficients = np.array([1.2, -0.4])
    mean, tables, scales = Autoregression(1.0, coefficients).starts()
    assert mean == pytest.approx(1 / 0.2)
    x = series(np.random.default_rng(3), 2, coefficients, 20_000)
    first = x[0] * scales[0]
    second = (x[1] - tables[1, 0] * x[0]) * scales[1]
    assert scales[0] == pytest.approx(1 / deviation(coefficients), rel=1e-6)
    assert second.std() == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


def test_a_model_that_is_not_stationary_makes_nothing_of_its_first_errors():
    mean, tables, scales = Autoregression(0.1, np.array([1.01])).starts()
    assert (mean, tables.tolist()) == (0.0, [[0.0]])
    assert scales[0] < 1e-6
    assert Autoregression(0.0, np.array([1.0])).gain == pytest.approx(1e-3)


@pytest.mark.parametrize("gap", [1, 5])
def test_the_error_after_a_gap_is_shrunk_to_the_size_of_residuals(gap):
    x = series(np.random.default_rng(4), 500, [0.9], 200)
    error = x[gap + 1 :] - 0.9 ** (gap + 1) * x[: -gap - 1]
    assert (error * Autoregression(0.0, np.array([0.9])).after_gaps()[gap]).std() == pytest.approx(1, abs=0.02)
