# SPDX-License-Identifier: Apache-2.0
import numpy as np

from learn2compress.compression.training.feature_heads import composed_heads


def test_composed_heads_compute_the_logits_of_the_predicted_features():
    rng = np.random.default_rng(0)
    kept, mean, deviation = np.array([0, 2, 3]), rng.normal(size=4), rng.uniform(1, 2, 3)
    kernel, bias = rng.normal(size=(4, 5)), rng.normal(size=5)
    weights, offset = rng.normal(size=(6, 3)), rng.normal(size=3)
    pooled = rng.normal(size=(7, 6))
    features = np.tile(mean, (7, 1))  # the second feature does not vary
    features[:, kept] = (pooled @ weights + offset) * deviation + mean[kept]
    heads = composed_heads({"small": (weights, offset)}, (kernel, bias), kept, mean, deviation)
    np.testing.assert_allclose(pooled @ heads["small"][0] + heads["small"][1], features @ kernel + bias)
