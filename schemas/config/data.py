# SPDX-License-Identifier: Apache-2.0
"""The section `data`."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from learn2compress.schemas.config.types import Count, Fraction, PositiveInt, Section


def _name_of_class(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"a class's name must be text; got {value}. Write it in quotes")
    return str(value) if isinstance(value, int) else value


ClassName = Annotated[str, BeforeValidator(_name_of_class)]


class DataConfig(Section):
    """The labelled examples."""

    UNUSUAL: ClassVar[frozenset[str]] = frozenset({"max_pixels", "storage"})

    path: str = Field(
        description="image folder (a sub-folder for each class, with or without train/ and test/), .npz file, "
        "TFRecord files (a folder or a pattern), .csv file of paths and labels, or the word digits; for texts: .csv, "
        ".tsv, .jsonl or .parquet files with the columns text and label, folder of .txt files, or TFRecord files"
    )
    format: Literal["auto", "folder", "npz", "tfrecord", "csv", "tsv", "jsonl", "parquet", "digits"] = Field(
        "auto", description="format of path; auto: detected"
    )
    modality: Literal["image", "text"] | None = Field(
        None, description="kind of the examples, image or text (default: detected by columns and file names)"
    )
    height: PositiveInt | None = Field(
        None, description="height in pixels to which images are resized (default: the teacher's)"
    )
    width: PositiveInt | None = Field(
        None, description="width in pixels to which images are resized (default: the teacher's)"
    )
    channels: Literal[1, 3] | None = Field(None, description="1: grey, 3: colour (default: the teacher's)")
    classes: list[ClassName] | None = Field(
        None, description="class names in the teacher's order (default: the data's)"
    )
    label_offset: int | None = Field(
        None, description="what is taken off labels that are whole numbers: 1 where they begin at 1 (default: 0)"
    )
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="fraction of the training examples held out to choose epochs and models"
    )
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="fraction held out for the final figures, if the data has no test part"
    )
    image_feature: str = Field("image/encoded", description="TFRecord: name of the image feature")
    label_feature: str = Field("image/class/label", description="TFRecord: name of the label feature")
    max_tokens: PositiveInt | None = Field(
        None, description="texts: words that a student reads; later ones are ignored (default: enough for 95 % of them)"
    )
    text_column: str | None = Field(
        None, description="texts: name of the column, or of the TFRecord feature (default: text)"
    )
    label_column: str | None = Field(
        None, description="texts: name of the column, or of the TFRecord feature (default: label)"
    )
    split_column: str | None = Field(
        None, description="texts: column that says train, validation or test (default: split, if there is one)"
    )
    group_column: str | None = Field(
        None,
        description="texts: column of groups, which are never divided between splits (default: group, if there is one)",
    )
    unlabeled: str | None = Field(
        None,
        description="examples without labels, from which students learn the teacher's logits or features, see "
        "distill.unlabeled: folder of any depth, .npz file (images) or TFRecord files; for texts any format of path",
    )
    storage: Literal["auto", "raw", "encoded"] = Field(
        "auto",
        description="form of stored images; raw: pixels; encoded: the bytes of the source's JPEG, or lossless WebP of "
        "the resized pixels if that is smaller, with the same pixels when read; auto: raw up to 256 MiB, or if an "
        "image has less than 16 KiB, otherwise encoded",
    )
    max_bad_fraction: Fraction = Field(
        0.01, description="largest fraction of unreadable examples, which are skipped and counted"
    )
    # Pillow itself refuses more than the upper bound.
    max_pixels: Annotated[Count, Field(le=178_000_000)] = Field(
        120_000_000,
        description="pixels of the largest picture that is decoded, by its declared size; a larger one is unreadable. "
        "120M need a gigabyte of memory; modes such as 16-bit grey or transparency count twice or three times",
    )
