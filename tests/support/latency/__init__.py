# SPDX-License-Identifier: Apache-2.0
"""A latency model whose predictions can be worked out by hand: 10 µs and one ns per multiply-accumulate."""

from learn2compress.evaluation.latency.model import LatencyModel, Terms

ONE = (1, 1, 1)
NS = 0.001
PER_MAC = LatencyModel(
    "Abacus",
    "beads 1",
    10.0,
    {
        "conv": Terms(ONE, (0.0, 0.0, 0.0, 0.0, NS, 0.0, 0.0, 0.0)),
        "pointwise": Terms(ONE, (0.0, 0.0, 0.0, 0.0, NS, 0.0, 0.0, 0.0)),
        "depthwise": Terms(ONE, (0.0, 0.0, NS, 0.0, 0.0)),
        "dense": Terms(ONE, (0.0, 0.0, 0.0, NS)),
        "mean": Terms(ONE, (0.0, 0.0, 0.0, 0.0)),
        "add": Terms(ONE, (0.0, 0.0, 0.0, 0.0)),
        "softmax": Terms(ONE, (0.0, 0.0)),
    },
)
