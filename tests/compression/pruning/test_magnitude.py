# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras

from learn2compress.compression.pruning.magnitude import (
    first_epoch_at_target,
    kernel_sparsity,
    prunable_layers,
    prune_while_training,
    update_steps,
)
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe


def dense_model(kernel) -> keras.Model:
    """A dense layer `dense` with a kernel, no bias."""
    kernel = np.array(kernel, np.float32)
    image = keras.Input(kernel.shape[:1])
    model = keras.Model(image, keras.layers.Dense(kernel.shape[1], use_bias=False, name="dense")(image))
    model.get_layer("dense").set_weights([kernel])
    return model


def prune_at_once(model: keras.Model, sparsity: float, block: str = "1x1") -> np.ndarray:
    """The kernel after a training of one step."""
    prune_while_training(model, sparsity, total_steps=1, block=block).before_step(0)
    return model.get_layer("dense").kernel.numpy()


def test_masks_zero_the_smallest_weights_of_a_kernel():
    kernel = prune_at_once(dense_model([[1, -8, 3], [-2, 7, 4], [6, -5, 9]]), 4 / 9)

    np.testing.assert_array_equal(kernel, [[0, -8, 0], [0, 7, 0], [6, -5, 9]])


def test_masks_keep_weights_equal_to_the_smallest_one_kept():
    kernel = prune_at_once(dense_model([[1, 2, 2, 3]]), 0.5)

    np.testing.assert_array_equal(kernel, [[0, 2, 2, 3]])


def test_masks_zero_whole_blocks_of_four_with_1x4():
    # Means of the blocks, with the last one of two columns: [2.5, 3, 5] and [4, 1.75, 2].
    kernel = [[1, 2, 3, 4, 3, -3, 3, 3, 5, 5], [4, 4, -4, 4, 1, 1, 1, 4, 2, 2]]

    pruned = prune_at_once(dense_model(kernel), 0.5, "1x4")

    np.testing.assert_array_equal(pruned, [[0, 0, 0, 0, 3, -3, 3, 3, 5, 5], [4, 4, -4, 4, 0, 0, 0, 0, 0, 0]])


def test_masks_support_blocks_in_a_convolution_of_any_size(trained_family):
    pruned = prune_while_training(trained_family, 0.5, total_steps=1, block="1x4")

    pruned.before_step(0)

    kernel = trained_family.get_layer("small_tail1_pw").kernel.numpy()
    blocks = kernel.reshape(-1, 4)
    assert set(np.sum(blocks == 0, axis=1)) == {0, 4}
    assert np.mean(kernel == 0) == 0.5


def test_masks_equal_those_of_tfmots_wrapper():
    kernel = np.random.default_rng(0).normal(size=(20, 30))
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.7, begin_step=0, end_step=1, power=3, frequency=1)
    wrapper = tfmot.sparsity.keras.prune_low_magnitude(dense_model(kernel).get_layer("dense"), schedule)
    wrapper.build((None, 20))
    wrapper.pruning_step.assign(1)
    wrapper.pruning_obj.conditional_mask_update()
    wrapper.pruning_obj.weight_mask_op()

    np.testing.assert_array_equal(prune_at_once(dense_model(kernel), 0.7), wrapper.layer.kernel.numpy())


def test_masks_follow_the_polynomial_and_end_at_the_target():
    model = dense_model(np.random.default_rng(0).normal(size=(10, 100)))
    pruned = prune_while_training(model, 0.8, total_steps=60)

    found = []
    for step in range(60):
        pruned.before_step(step)
        found.append(kernel_sparsity(model, ["dense"]))

    # 60 steps: masks after 8, 16, 24, 32 and 40, the last at two thirds.
    progress = [min(1, (step + 1) // 8 * 8 / 40) for step in range(60)]
    expected = [0.8 * (1 - (1 - p) ** 3) for p in progress]  # 1710.01878, equation 1
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert found[38] < 0.8
    assert found[39] == found[-1] == 0.8


def test_masks_support_a_sparsity_for_each_layer(trained_family):
    pruned = prune_while_training(trained_family, {"large_tail1_pw": 0.25, "small_logits": 0.5}, total_steps=1)

    pruned.before_step(0)

    assert pruned.layers == ("large_tail1_pw", "small_logits")
    assert kernel_sparsity(trained_family, ["large_tail1_pw"]) == 0.25
    assert kernel_sparsity(trained_family, ["small_logits"]) == 0.5
    assert kernel_sparsity(trained_family, ["large_logits"]) == 0.0


@pytest.mark.parametrize(
    ("total", "end", "every"), [(1, 1, 1), (2, 1, 1), (9, 6, 2), (10, 6, 2), (60, 40, 8), (100, 64, 8)]
)
def test_update_steps_end_by_two_thirds_on_a_multiple(total, end, every):
    assert update_steps(total) == (end, every)


@pytest.mark.parametrize(("epochs", "first"), [(1, 0), (2, 1), (3, 2), (4, 3), (6, 4), (12, 8)])
def test_first_epoch_at_target_has_the_target_sparsity_in_all_steps(epochs, first):
    assert first_epoch_at_target(epochs) == first
    if first * 10 < epochs * 10 - 10:
        assert update_steps(epochs * 10)[0] <= first * 10


def test_prunable_layers_leave_first_convolution_and_depthwise_dense(trained_family):
    names = prunable_layers(trained_family)

    assert names == (
        "trunk1_1_pw",
        "trunk2_1_pw",
        "trunk2_2_pw",
        "small_tail1_pw",
        "large_tail1_pw",
        "small_logits",
        "large_logits",
    )


def test_kernel_sparsity_is_zero_when_there_is_nothing_to_prune():
    image = keras.Input((2,))

    assert kernel_sparsity(keras.Model(image, keras.layers.ReLU()(image))) == 0.0


@pytest.fixture(scope="module")
def pruned_run(stripes, trained_weights):
    """A family pruned to 75 % in six epochs of three steps, with averaged weights of its best epoch, and the result."""
    from learn2compress.compression.family.model import build_family

    family = build_family(stripes.SPEC, seed=1)
    family.set_weights(trained_weights)
    images, labels = stripes.draw(96, 0)
    data = stripes.batches(images, labels, stripes.StripesTeacher().logits(images))
    pruned = prune_while_training(family, 0.75, total_steps=18)
    trainer = JointTrainer(
        pruned.model,
        stripes.SPEC.students,
        Recipe("pruned", 6, 3, 5e-3, ema_decay=0.9, choose_from=first_epoch_at_target(6)),
        before_step=pruned.before_step,
        after_step=pruned.apply_masks,
        after_restore=pruned.apply_masks,
        state=pruned.state,
    )
    trainer.train(lambda _: data, stripes.batches(*stripes.draw(33, 1)))
    return pruned, trainer


def test_training_ends_with_the_zeros_of_the_masks_and_of_no_others(pruned_run):
    pruned, _ = pruned_run

    for name, mask in zip(pruned.layers, pruned.masks, strict=True):
        kernel = pruned.model.get_layer(name).kernel.numpy()
        np.testing.assert_array_equal(kernel != 0, mask.mask.numpy() != 0)
        assert np.sum(kernel == 0) == np.round(0.75 * kernel.size)


def test_training_leaves_biases_depthwise_kernels_and_first_convolution_dense(pruned_run):
    pruned, _ = pruned_run

    kernels = {layer.kernel.ref() for layer in map(pruned.model.get_layer, pruned.layers)}
    others = [v for v in pruned.model.trainable_variables if v.ref() not in kernels]
    assert len(others) == len(pruned.model.trainable_variables) - len(pruned.layers)
    assert all(np.all(v.numpy() != 0) for v in others)


def test_training_reaches_its_accuracy_with_three_quarters_of_the_weights_zero(pruned_run, stripes):
    accuracy = pruned_run[1].accuracy(stripes.batches(*stripes.draw(33, 1)))

    assert min(accuracy.values()) >= 0.8  # a third would be chance


def test_masks_set_no_further_zeros_when_weights_are_assigned(pruned_run, trained_weights):
    pruned, _ = pruned_run
    pruned_weights = pruned.model.get_weights()

    pruned.model.set_weights(trained_weights)
    stripped = pruned.strip()

    assert stripped is pruned.model
    assert kernel_sparsity(stripped) == pytest.approx(0.75, abs=1e-3)
    stripped.set_weights(pruned_weights)


def test_step_applies_the_masks_itself(pruned_run, stripes):
    """Directly after a step, before weights are restored."""
    pruned, trainer = pruned_run
    images, labels = stripes.draw(32, 0)
    teacher = stripes.StripesTeacher().logits(images)

    trainer.step(*map(tf.constant, (images, labels, teacher)), tf.constant(0.5))

    assert kernel_sparsity(pruned.model) == pytest.approx(0.75, abs=1e-3)
