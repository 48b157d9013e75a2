# SPDX-License-Identifier: Apache-2.0
import numpy as np

from learn2compress.compression.trunk.probes import centered, fit_probe


def ridge(features, targets, penalty):
    z = (features - features.mean(0)) / features.std(0)
    gram = z.T @ z + len(z) * penalty * np.eye(z.shape[1])
    return np.linalg.solve(gram, z.T @ (targets - targets.mean(0)))


def test_fit_probe_is_a_ridge_regression_on_standardized_features():
    rng = np.random.default_rng(0)
    features, logits = rng.normal(3, 2, (30, 5)), rng.normal(size=(30, 3))
    probe = fit_probe(features, logits, logits.argmax(1))
    predicted = features @ probe.kernel + probe.bias
    candidates = [ridge(features, centered(logits), p) for p in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)]
    z = (features - features.mean(0)) / features.std(0)
    errors = [np.abs(z @ w + centered(logits).mean(0) - predicted).max() for w in candidates]
    assert min(errors) < 1e-4


def test_fit_probe_measures_accuracy_on_images_that_were_left_out():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    noise = fit_probe(rng.normal(size=(60, 55)), 5 * np.eye(4)[labels], labels)
    assert noise.accuracy < 0.5  # as many features as images: the fit itself would be perfect
    told = fit_probe(np.eye(4)[labels] + rng.normal(0, 0.1, (60, 4)), 5 * np.eye(4)[labels], labels)
    assert told.accuracy == 1.0


def test_fit_probe_ignores_features_that_do_not_vary():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(20, 2)), np.ones((20, 1))], axis=1)
    probe = fit_probe(features, rng.normal(size=(20, 3)), rng.integers(0, 3, 20))
    assert np.all(probe.kernel[2] == 0)


def test_fit_probe_measures_the_errors_of_images_that_were_left_out():
    rng = np.random.default_rng(0)
    features, logits = rng.normal(3, 2, (30, 5)), rng.normal(size=(30, 3))
    targets = centered(logits)

    # The mean and the standardization are of all images, as in the fit; the penalty counts 30 of them.
    z = (features - features.mean(0)) / features.std(0)
    z = np.concatenate([z, np.ones((30, 1))], axis=1)

    def left_out(penalty: float) -> np.ndarray:
        shrink = np.diag([30 * penalty] * 5 + [0.0])
        errors = []
        for i in range(30):
            rest = np.delete(np.arange(30), i)
            weights = np.linalg.solve(z[rest].T @ z[rest] + shrink, z[rest].T @ targets[rest])
            errors.append((z[i] @ weights - targets[i]) ** 2)
        return np.mean(errors, axis=1) / targets.var()

    least = min((left_out(penalty) for penalty in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)), key=np.mean)
    np.testing.assert_allclose(fit_probe(features, logits, logits.argmax(1)).errors, least, rtol=1e-9)
