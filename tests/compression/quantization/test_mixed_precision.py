# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest

from learn2compress.compression.quantization.mixed_precision import _attempts

READERS = {0: {1, 2}, 1: {2}, 2: set(), 3: {4}}


@pytest.mark.parametrize(
    ("most", "sets"),
    [
        (1, [{2}]),  # neither 0 nor 3 fits together with its readers
        (2, [{2}]),
        (3, [{0, 1, 2}]),
        (5, [{0, 1, 2}, {0, 1, 2, 3, 4}]),
    ],
)
def test_attempts_skip_steps_that_do_not_fit(most, sets):
    pair = SimpleNamespace(readers=READERS.get)
    causes = [(0, "range"), (2, "weights"), (3, "range")]

    assert _attempts(pair, [(step, SimpleNamespace(cause=cause)) for step, cause in causes], most) == sets
