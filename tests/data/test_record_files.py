# SPDX-License-Identifier: Apache-2.0
import gzip

import pytest
import tensorflow as tf

from learn2compress.data.record_files import count_records, read_records
from learn2compress.schemas.errors import DataError

RECORDS = [bytes([i]) * (50 + i) for i in range(10)]
FRAME = 16  # bytes around each record


@pytest.fixture(params=["plain", "gzip"])
def path(tmp_path, request):
    path = tmp_path / "some.tfrecord"
    kind = "GZIP" if request.param == "gzip" else ""
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=kind)) as writer:
        for record in RECORDS:
            writer.write(record)
    return path


def rewrite(path, change) -> None:
    """Changes the uncompressed frames of a file."""
    data = path.read_bytes()
    zipped = data[:2] == b"\x1f\x8b"
    changed = change(bytearray(gzip.decompress(data) if zipped else data))
    path.write_bytes(gzip.compress(changed) if zipped else changed)


def test_read_records_reads_what_tensorflow_wrote(path):
    assert list(read_records(path)) == RECORDS
    assert count_records(path) == 10


@pytest.mark.parametrize("cut", [1, 20, 50 + 9 + FRAME - 3])  # in the last checksum, data and length
@pytest.mark.parametrize("read", [count_records, lambda path: list(read_records(path))])
def test_records_raise_when_the_file_is_truncated(path, cut, read):
    rewrite(path, lambda data: data[:-cut])
    with pytest.raises(
        DataError, match=r"some.tfrecord must be a whole TFRecord file; got record 9 of which it is cut"
    ):
        read(path)


@pytest.mark.parametrize("read", [count_records, lambda path: list(read_records(path))])
def test_records_raise_when_a_length_is_damaged(path, read):
    rewrite(path, lambda data: data[:66] + bytes([data[66] ^ 1]) + data[67:])  # in the second record
    with pytest.raises(DataError, match="got record 1 of which its length does not match its checksum"):
        read(path)


def test_read_records_raises_when_data_are_damaged(path):
    rewrite(path, lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:])
    with pytest.raises(DataError, match="got record 0 of which its data do not match their checksum"):
        list(read_records(path))


def test_records_raise_when_a_gzip_stream_lacks_its_end(tmp_path):
    path = tmp_path / "some.tfrecord.gz"
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for record in RECORDS:
            writer.write(record)
    path.write_bytes(path.read_bytes()[:-1])  # all records are complete; TensorFlow accepts the file
    with pytest.raises(DataError, match="got record 10 of which Compressed file ended before the end-of-stream"):
        count_records(path)
