# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.compression.family.model import normalize
from learn2compress.compression.graphs.layer_walk import Edit, chunks_of, input_id, output_ids, run_steps, steps_of


@pytest.fixture
def before(trained_family, stripes):
    values = {input_id(trained_family): normalize(stripes.draw(9, 3)[0])}
    return values | run_steps(steps_of(trained_family), values)


def test_run_steps_returns_the_outputs_of_the_model(trained_family, before):
    expected = trained_family(before[input_id(trained_family)], training=False)

    for tensor, logits in zip(output_ids(trained_family), expected, strict=True):
        np.testing.assert_array_equal(before[tensor], logits)


def test_run_steps_computes_only_affected_steps(trained_family, before):
    steps = steps_of(trained_family)
    number = next(n for n, step in enumerate(steps) if step.layer.name == "large_tail1_dw")

    after = run_steps(steps, before, {number: Edit(outputs=lambda value: value * 0)})

    small, large = output_ids(trained_family)
    assert small not in after
    assert not np.allclose(after[large], before[large])
    behind = {step.layer.name for step in steps if set(step.outputs) & set(after)}
    assert {name.split("_")[0] for name in behind} == {"large"}


def test_run_steps_with_an_edit_that_changes_nothing_changes_nothing(trained_family, before):
    after = run_steps(steps_of(trained_family), before, {0: Edit()})

    for tensor in output_ids(trained_family):
        np.testing.assert_array_equal(after[tensor], before[tensor])


def test_run_steps_replaces_an_input(trained_family, before):
    steps = steps_of(trained_family)
    number = next(n for n, step in enumerate(steps) if step.layer.name == "small_logits")

    after = run_steps(steps, before, {number: Edit(inputs=lambda value: value * 0)})

    bias = trained_family.get_layer("small_logits").bias
    np.testing.assert_allclose(after[output_ids(trained_family)[0]], np.tile(bias, (9, 1)))


def test_chunks_of_splits_a_batch_into_parts_that_fit(trained_family, monkeypatch):
    monkeypatch.setattr("learn2compress.compression.graphs.layer_walk._CHUNK_BYTES", 400_000)

    pieces = list(chunks_of(trained_family, np.arange(100)))

    assert len(pieces) > 1
    np.testing.assert_array_equal(np.concatenate(pieces), np.arange(100))
