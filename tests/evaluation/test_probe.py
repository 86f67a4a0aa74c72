"""Linear probes."""

import numpy as np
from sklearn.linear_model import Ridge

from panini.evaluation.probe import fit_linear


def test_a_feature_that_hardly_varies_gets_no_huge_weight() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    x[:, 2] = 1 - 1e-7 * rng.random(200)
    y = 2 * x[:, 0] - x[:, 1] + 3
    linear = fit_linear(x, y, Ridge(0.1))
    np.testing.assert_allclose(linear.weights[:2], [2, -1], atol=0.01)
    assert abs(linear.weights[2]) < 10
    np.testing.assert_allclose(x @ linear.weights + linear.bias, y, atol=0.05)
