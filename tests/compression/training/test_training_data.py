# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from learn2compress.compression.training import training_data
from learn2compress.compression.training.training_data import TrainingData, record_bytes
from learn2compress.data.batches import iter_numpy, read_with_logits
from learn2compress.modalities.image.views.shifts import apply_view
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import DataManifest, read_manifest


@pytest.fixture
def data(stripes_artifacts):
    return TrainingData.open(*stripes_artifacts, batch_size=32, seed=3)


@pytest.fixture(scope="module")
def views(stripes_artifacts):
    """The stored pixels and logits, by image number and view."""
    pixels, logits = {}, {}
    number = 0
    for batch in iter_numpy(read_with_logits(*stripes_artifacts, "train")):
        seen = [apply_view(batch["example"], batch["views"][:, k]).numpy() for k in range(batch["views"].shape[1])]
        for i in range(len(batch["id"])):
            for k, images in enumerate(seen):
                pixels[number, k] = images[i].tobytes()
                logits[number, k] = batch["logits"][i, k]
            number += 1
    return pixels, logits


def shown(data: TrainingData, epoch: int, views) -> list[tuple[int, bytes]]:
    """List the image numbers and view pixels of an epoch in order, and check that the logits are those of the view."""
    pixels, logits = views
    by_pixels = {content: key for key, content in pixels.items()}  # of equal views, their logits are equal too
    found = []
    for images, _, teacher in data.epoch(epoch):
        for image, values in zip(images.numpy(), teacher.numpy(), strict=True):
            key = by_pixels[image.tobytes()]
            np.testing.assert_array_equal(values, logits[key])
            found.append((key[0], image.tobytes()))
    return found


def test_open_reads_sizes_from_the_manifests(data):
    assert (data.batch_size, data.steps, data.classes, data.recipe.count) == (32, 3, 3, 2)
    assert data.shuffle_buffer == 96


def test_open_makes_batches_no_larger_than_the_data(stripes_artifacts):
    data = TrainingData.open(*stripes_artifacts, batch_size=128, seed=0)

    assert (data.batch_size, data.steps) == (96, 1)


def test_epoch_has_only_full_batches(stripes_artifacts):
    data = TrainingData.open(*stripes_artifacts, batch_size=40, seed=0)

    assert data.steps == 2
    assert [len(images) for images, _, _ in data.epoch(0)] == [40, 40]


def test_epoch_contains_each_image_once_in_a_stored_view(data, views):
    seen = shown(data, 0, views)

    assert sorted(number for number, _ in seen) == list(range(96))
    firsts = sum(content == views[0][number, 0] for number, content in seen)
    assert 20 < firsts < 76, "an epoch mixes the views"


def test_epochs_contain_all_views_of_every_image_in_turn(data, views):
    seen = [set(shown(data, epoch, views)) for epoch in range(6)]

    # There are two views: both occur within two epochs, and repeat every two epochs.
    assert seen[0] | seen[1] == {(number, content) for (number, _), content in views[0].items()}
    assert seen[0] == seen[2] == seen[4] != seen[1]
    assert seen[1] == seen[3] == seen[5]


def test_epochs_depend_only_on_seed_and_number(data, stripes_artifacts, views):
    again = TrainingData.open(*stripes_artifacts, batch_size=32, seed=3)
    other = TrainingData.open(*stripes_artifacts, batch_size=32, seed=4)

    assert shown(data, 2, views) == shown(again, 2, views)
    assert shown(data, 2, views) != shown(data, 4, views), "same views, another order"
    assert shown(data, 2, views) != shown(other, 2, views)


def test_epochs_do_not_depend_on_the_global_seed(data, views):
    expected = shown(data, 2, views)

    for seed in (1, 7):
        tf.random.set_seed(seed)
        assert shown(data, 2, views) == expected


def test_epoch_gives_each_image_its_label(data, stripes):
    for images, labels, teacher in data.epoch(1):
        assert images.dtype == "uint8"
        assert images.shape == (32, *stripes.SHAPE)
        np.testing.assert_array_equal(np.argmax(teacher, axis=1), labels)


def test_epoch_has_the_pixels_of_a_mix_for_which_the_teacher_gave_its_logits(stripes_artifacts, stripes, tmp_path):
    examples = stripes_artifacts[0]
    recipe = stripes.RECIPE.model_copy(update={"mixed": True})
    stripes.write_logits(tmp_path, examples, read_manifest(examples, DataManifest), recipe)
    data, plain = (TrainingData.open(examples, logits, 32, 3) for logits in (tmp_path, stripes_artifacts[1]))
    mixed = 0
    for (images, labels, taught), (unmixed, right, _) in zip(data.epoch(0), plain.epoch(0), strict=True):
        expected = stripes.StripesTeacher().logits(images.numpy())
        np.testing.assert_allclose(taught, expected - expected.max(axis=1, keepdims=True), rtol=1e-3, atol=1e-3)
        is_mix = np.any(images.numpy() != unmixed.numpy(), axis=(1, 2, 3))
        np.testing.assert_array_equal(labels, np.where(is_mix, -1, right))
        mixed += is_mix.sum()
    assert 20 < mixed < 76
    assert data.shuffle_buffer == 96


def test_record_of_mixes_has_two_examples(stripes):
    mixed = stripes.RECIPE.model_copy(update={"mixed": True})

    assert record_bytes(stripes.TASK, stripes.RECIPE, 6) == 64 + 2 * (6 + 2 * 3)
    assert record_bytes(stripes.TASK, mixed, 6) == 2 * 64 + 2 * (6 + 2 * 4)


def test_validation_has_unchanged_images_with_their_labels(data, stripes):
    ((images, labels),) = data.validation()

    assert np.array_equal(images, stripes.draw(33, 1)[0])
    assert np.array_equal(labels, stripes.draw(33, 1)[1])


@pytest.mark.parametrize(("count", "expected"), [(10, 10), (96, 96), (500, 96)])
def test_representative_returns_the_first_training_images(data, stripes, count, expected):
    images, ids = data.representative(count)

    assert np.array_equal(np.stack(images), stripes.draw(96, 0)[0][:expected])
    assert ids == [f"{n:016x}" for n in range(expected)]


def changed(folder, tmp_path, **values):
    """Copy an artifact with a changed manifest."""
    copy = shutil.copytree(folder, tmp_path / "changed")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | values))
    return copy


def test_open_refuses_logits_of_other_examples(stripes_artifacts, tmp_path):
    examples, logits = stripes_artifacts

    with pytest.raises(DataError, match=r"must be of the examples in .*; got those of 000000000000\. Run the teacher"):
        TrainingData.open(examples, changed(logits, tmp_path, examples_sha256="0" * 64), 32, 0)


def test_open_refuses_a_missing_shard(stripes_artifacts, stripes, tmp_path):
    examples, logits = stripes_artifacts
    copy = changed(logits, tmp_path)
    (copy / "Split-train" / stripes.SHARD.format(1)).unlink()

    with pytest.raises(DataError, match=r"00001-of-00002\.gz must exist"):
        TrainingData.open(examples, copy, 32, 0)


def test_open_refuses_a_training_split_without_images(stripes_artifacts, tmp_path):
    examples, logits = stripes_artifacts
    empty = changed(examples, tmp_path, counts={"train": 0, "validation": 33, "test": 30})

    with pytest.raises(DataError, match=r"must have training images; got none\. Check data\.path"):
        TrainingData.open(empty, logits, 32, 0)


def test_epoch_has_the_same_views_in_the_same_order_with_a_jointly_trained_teacher(stripes_artifacts, data, tmp_path):
    shutil.copytree(stripes_artifacts[1], tmp_path / "logits")
    manifest = json.loads((tmp_path / "logits/manifest.json").read_text())
    manifest["shards"]["train"] = []
    (tmp_path / "logits/manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(tmp_path / "logits/Split-train")

    live = TrainingData.open(stripes_artifacts[0], tmp_path / "logits", batch_size=32, seed=3)

    assert live.live
    assert not data.live
    for epoch in (0, 1):
        for ours, theirs in zip(live.epoch(epoch), data.epoch(epoch), strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])
            assert ours[2].shape == (32, 0)


def test_large_examples_are_read_in_small_batches_with_the_same_content(data, monkeypatch):
    labels = np.concatenate([labels.numpy() for _, labels in data.validation()])
    images, ids = data.representative(20)
    held = data.first_validation(7)

    monkeypatch.setattr(training_data, "_READ_BYTES", 4 * images[0].nbytes)

    batches = [labels.numpy() for _, labels in data.validation()]
    assert {len(batch) for batch in batches[:-1]} == {4}
    np.testing.assert_array_equal(np.concatenate(batches), labels)
    np.testing.assert_array_equal(data.representative(20)[0], images)
    assert data.representative(20)[1] == ids
    for found, expected in zip(data.first_validation(7), held, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_no_more_validation_examples_are_read_than_there_are(data):
    count = sum(len(labels) for _, labels in data.validation())

    assert len(data.first_validation(count + 5)[1]) == count
    assert len(data.first_validation(0)[1]) == 0
