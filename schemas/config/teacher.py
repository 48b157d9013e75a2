# SPDX-License-Identifier: Apache-2.0
"""The section `teacher`, and its two parts, for TeacherImporter and for the Distiller."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from learn2compress.schemas.config.reading.former_names import FORMER_NAMES
from learn2compress.schemas.config.types import Fraction, PositiveInt, Rate, Section
from learn2compress.schemas.scaling import Scaling

# YAML reads an unquoted index as a number.
AsText = BeforeValidator(lambda value: str(value) if type(value) is int else value)
AsList = BeforeValidator(lambda value: [value] if type(value) is int else value)
# YAML reads an unquoted yes or no as a boolean.
YesOrNo = BeforeValidator(lambda value: {True: "yes", False: "no"}.get(value, value) if type(value) is bool else value)


class TeacherModeConfig(Section):
    """Whether the teacher is trained jointly with the students."""

    mode: Literal["fixed", "joint"] = Field(
        "fixed",
        description="fixed: the teacher is not trained, its logits are computed once; joint: a copy is trained "
        "jointly with the students, with a forward pass in each step",
    )


class JointTeacherConfig(TeacherModeConfig):
    """Settings of joint training of the teacher."""

    learning_rate: Rate = Field(
        1e-4, description="joint: peak learning rate of the teacher; warm-up and decay as in distill"
    )
    mutual_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="joint: weight of the students' logits in the teacher's loss, beside the labels (1706.00384)"
    )


class TeacherImportConfig(TeacherModeConfig):
    """Where the teacher is, its input and output, and the views of its logits."""

    FORMER_NAMES = FORMER_NAMES["teacher"]
    UNUSUAL = frozenset({"trust"})

    path: str = Field(description="SavedModel folder, .keras or .h5 file")
    scaling: Scaling = Field(
        Scaling(),
        description="scaling of pixels 0..255 that the teacher expects: none, unit (0..1), symmetric (-1..1), "
        "imagenet, caffe, or {mean: [..], std: [..]}",
    )
    resize: bool = Field(False, description="resize images for the teacher only, if the data has another size")
    signature: str | None = Field(
        None, description="signature of a SavedModel (default: serving_default, or the only one)"
    )
    output: Annotated[str | None, AsText] = Field(
        None, description="name or index of the output, if the model has several"
    )
    class_order: list[int] | None = Field(None, description="index of the teacher's output for each class of the data")
    skip_class: Annotated[list[int] | None, AsList] = Field(
        None, description="index of an output that stands for no class of the data, such as a background class"
    )
    allow_near_chance: bool = Field(
        False, description="continue with a teacher whose accuracy on the data is near chance"
    )
    views: PositiveInt = Field(4, description="random views of each training example whose logits are computed once")
    view_shift: Fraction = Field(0.1, description="largest shift of a view, as a fraction of the image's side")
    view_flip: Annotated[Literal["auto", "yes", "no"], YesOrNo] = Field(
        "auto",
        description="mirror views left to right; auto: only if the teacher's accuracy does not drop on mirrored images",
    )
    view_dropped_words: Fraction | None = Field(
        None, description="texts: fraction of the words that are left out of a view (default: 0.25)"
    )
    tokenizer: str | None = Field(
        None, description="texts: tokenizer.json of a teacher that takes token ids, such as a transformer"
    )
    vocabulary: str | None = Field(
        None,
        description="texts: file with the words of a teacher that takes word ids: one word in each line, 'word id' "
        "lines, or JSON",
    )
    view_area: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="photographs: views are random parts at full size, of at least this fraction of the image's area, "
        "instead of shifts (default: 0.4 with students.from: teacher, otherwise shifts)",
    )
    view_colour: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="photographs: largest relative change of brightness, contrast and saturation (default: 0.2 with "
        "students.from: teacher)",
    )
    view_mix: bool = Field(
        False,
        description="images: every second view is a mix of two images, without a label; a teacher knows its training "
        "images by heart, and says more about mixes",
    )
    feature_layer: str | None = Field(
        None,
        description="layer whose output the students learn if distill.init is features (default: the input of the "
        "layer of the logits)",
    )
    trust: bool = Field(
        False,
        description="load a SavedModel whose graph uses files, the network or Python, see docs/explanation/security.md",
    )


class TeacherConfig(TeacherImportConfig, JointTeacherConfig):
    """The large model that is compressed."""

    ORDER: ClassVar[tuple[str, ...]] = (
        "path", "scaling", "resize", "signature", "output", "class_order", "skip_class", "allow_near_chance", "views",
        "view_shift", "view_flip", "view_area", "view_colour", "view_mix", "view_dropped_words", "tokenizer",
        "vocabulary", *JointTeacherConfig.model_fields, "feature_layer", "trust",
    )  # fmt: skip
