# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.compression.teacher.logits import trial_accuracy, write_outputs_shard
from learn2compress.data.batches import iter_numpy, read_examples, read_with_logits
from learn2compress.modalities.image.views.shifts import apply_view, draw_views, mirror
from learn2compress.schemas.errors import TeacherError


class Fixed:
    """Returns the same logits for every image."""

    def __init__(self, *logits: float) -> None:
        self.answer = np.array(logits, np.float32)

    def logits(self, images: np.ndarray) -> np.ndarray:
        return np.tile(self.answer, (len(images), 1))


@pytest.fixture
def shard(stripes_artifacts, stripes):
    """The first shard of training examples: 48 images."""
    return str(stripes_artifacts[0] / "Split-train" / stripes.SHARD.format(0))


def write(teacher, shard, tmp_path, stripes, views=2):
    recipe = stripes.RECIPE.model_copy(update={"count": views})
    outputs = {"logits": str(tmp_path / "out/logits.gz")}
    return write_outputs_shard(lambda images: {"logits": teacher.logits(images)}, shard, outputs, stripes.TASK, recipe)


def stored(path, kind="logits", dtype="<f2") -> np.ndarray:
    """Read the outputs in a file, [images, views * width] float32."""
    import tensorflow as tf

    records = tf.data.TFRecordDataset([str(path)], compression_type="GZIP")
    examples = [tf.train.Example.FromString(record.numpy()) for record in records]
    values = [example.features.feature[kind].bytes_list.value[0] for example in examples]
    return np.stack([np.frombuffer(value, dtype) for value in values]).astype(np.float32)


@pytest.mark.parametrize("views", [1, 3])
def test_write_outputs_shard_runs_one_inference_per_view_of_each_image(shard, tmp_path, stripes, views):
    teacher = stripes.StripesTeacher()

    count = write(teacher, shard, tmp_path, stripes, views)

    assert teacher.forward_passes == count.forward_passes == views * 48
    assert (count.images, count.correct) == (48, 48)


def test_write_outputs_shard_stores_the_logits_of_the_stored_views(stripes_artifacts, stripes):
    """The logits are those of the training views, up to a common offset and rounding to 16 bits."""
    for batch in iter_numpy(read_with_logits(*stripes_artifacts, "train")):
        np.testing.assert_array_equal(batch["views"], draw_views(batch["id"], stripes.RECIPE))
        for k in range(2):
            seen = apply_view(batch["example"], batch["views"][:, k]).numpy()
            expected = stripes.StripesTeacher().logits(seen)
            expected -= expected.max(axis=1, keepdims=True)
            np.testing.assert_allclose(batch["logits"][:, k], expected, rtol=1e-3, atol=1e-3)
    assert np.any(batch["views"][:, 1] != 0)


def test_write_outputs_shard_counts_correct_predictions_on_view_0(shard, tmp_path, stripes):
    count = write(Fixed(0, 1, 0), shard, tmp_path, stripes)

    assert count.correct == 16


def test_write_outputs_shard_leaves_no_partial_file(shard, tmp_path, stripes):
    class Failing(stripes.StripesTeacher):
        def logits(self, images):
            raise RuntimeError(f"out of memory for {len(images)} images")

    with pytest.raises(RuntimeError, match="out of memory"):
        write(Failing(), shard, tmp_path, stripes)

    assert not (tmp_path / "out/logits.gz").exists()


def test_write_outputs_shard_is_not_disturbed_by_another_attempt(shard, tmp_path, stripes):
    """As when Beam starts a bundle anew while the former attempt is still at work."""
    write(stripes.StripesTeacher(), shard, tmp_path, stripes)
    expected = (tmp_path / "out/logits.gz").read_bytes()
    (tmp_path / "out/logits.gz").unlink()

    class Overtaken(stripes.StripesTeacher):
        def logits(self, images):
            write(stripes.StripesTeacher(), shard, tmp_path, stripes)
            return super().logits(images)

    write(Overtaken(), shard, tmp_path, stripes)

    assert (tmp_path / "out/logits.gz").read_bytes() == expected
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["logits.gz"]


def test_write_outputs_shard_computes_both_kinds_on_the_same_views(shard, tmp_path, stripes):
    """Each kind is written to its own file, with the same bytes as if it were the only one requested."""
    teacher = stripes.StripesTeacher()

    def both(images):
        logits = teacher.logits(images)
        return {"logits": logits, "features": 2 * logits[:, ::-1]}

    files = {kind: str(tmp_path / kind / "of.gz") for kind in ("logits", "features")}
    count = write_outputs_shard(both, shard, files, stripes.TASK, stripes.RECIPE)

    assert teacher.forward_passes == count.forward_passes == 2 * 48
    assert (count.images, count.correct) == (48, 48)
    write(teacher, shard, tmp_path, stripes)
    logits, features = stored(files["logits"]), stored(files["features"], "features", "<f4")
    np.testing.assert_array_equal(logits, stored(tmp_path / "out/logits.gz"))
    same = features.reshape(48, 2, 3)[:, :, ::-1] / 2
    np.testing.assert_allclose(same - same.max(-1, keepdims=True), logits.reshape(48, 2, 3), rtol=1e-3, atol=1e-3)
    alone = write_outputs_shard(both, shard, {"features": str(tmp_path / "alone.gz")}, stripes.TASK, stripes.RECIPE)
    assert (alone.images, alone.correct) == (48, 0)
    assert (tmp_path / "alone.gz").read_bytes() == (tmp_path / "features/of.gz").read_bytes()
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"of.gz", "alone.gz", "logits.gz"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_write_outputs_shard_refuses_logits_that_are_not_finite(shard, tmp_path, stripes, bad):
    with pytest.raises(TeacherError, match=r"logits must be finite; got NaN or infinity on examples of .*gz\."):
        write(Fixed(0, bad, 1), shard, tmp_path, stripes)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ((3000.5, 3000.0, 2999.0), (0, -0.5, -1.5)),  # a common offset costs no precision
        ((1e6, 0, 999_999), (0, -65504, -1)),  # logits outside the range of 16 bits have a probability of zero
        ((3e38, -3e38, 0), (0, -65504, -65504)),
    ],
)
def test_write_outputs_shard_stores_large_logits_in_16_bits(shard, tmp_path, stripes, logits, expected):
    write(Fixed(*logits), shard, tmp_path, stripes, views=1)

    assert np.all(stored(tmp_path / "out/logits.gz") == expected)


def test_trial_accuracy_compares_original_and_mirrored_images(stripes):
    images, labels = stripes.draw(31, 4)
    teacher = stripes.StripesTeacher()

    batches = iter([(images[:20], labels[:20]), (images[20:], labels[20:])])
    plain, mirrored, count = trial_accuracy(teacher, mirror, batches)

    assert (plain, count) == (1.0, 31)
    # Left and right are exchanged, and the bright middle pair is shifted by one column for the teacher.
    assert mirrored == np.mean(stripes.StripesTeacher().logits(images[:, :, ::-1]).argmax(1) == labels) < 0.5
    assert teacher.forward_passes == 2 * 31


def test_trial_accuracy_of_no_examples_is_zero(stripes):
    assert trial_accuracy(stripes.StripesTeacher(), mirror, iter([])) == (0.0, 0.0, 0)


def test_held_out_images_have_one_view_that_is_themselves(stripes_artifacts):
    (batch,) = iter_numpy(read_with_logits(*stripes_artifacts, "test"))
    (plain,) = iter_numpy(read_examples(stripes_artifacts[0], "test"))

    assert batch["views"].shape == (30, 1, 3)
    assert not batch["views"].any()
    np.testing.assert_array_equal(batch["example"], plain["example"])
