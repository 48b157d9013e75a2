# SPDX-License-Identifier: Apache-2.0
"""The configuration of a run: typed, frozen, checked at the edge. Every default lives here and nowhere else.

Accuracies, fractions and sparsities are fractions in [0, 1]; names end in their unit (`_bytes`, `_ms`).
Sizes are written as 24KB, 1.5MB (1,000) or 24KiB (1,024), counts as 2M or 500K.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.scaling import Scaling
from learn2compress.schemas.units import parse_bytes, parse_count

Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
# Memory as Kubernetes writes it.
Quantity = Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(K|M|G|T|Ki|Mi|Gi|Ti)$")]
# YAML reads a bare yes or no as a truth value.
YesOrNo = BeforeValidator(lambda value: {True: "yes", False: "no"}.get(value, value) if type(value) is bool else value)
Variant = Literal["float32", "float16", "dynamic", "int8", "uint8"]
TeacherVariant = Literal["float32", "float16", "dynamic", "int8"]


def _name_of_class(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"a class's name must be text; got {value}. Write it in quotes")
    return str(value) if isinstance(value, int) else value


ClassName = Annotated[str, BeforeValidator(_name_of_class)]


class Section(BaseModel):
    """A part of the configuration: immutable, refusing keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TeacherConfig(Section):
    """The large model that works."""

    path: str = Field(description="SavedModel folder, .keras or .h5 file")
    scaling: Scaling = Field(
        Scaling(),
        description="what the teacher expects of pixels 0..255: none, unit (0..1), symmetric (-1..1), imagenet, caffe, "
        "or {mean: [..], std: [..]}",
    )
    resize: bool = Field(False, description="resize images for the teacher alone, where the data has another size")
    signature: str | None = Field(None, description="of a SavedModel (default: serving_default, or the only one)")
    output: str | None = Field(None, description="name of the output to use, where the model has several")
    class_order: list[int] | None = Field(
        None, description="for each class of the data, the index of the teacher's output that stands for it"
    )
    insist: bool = Field(False, description="go on with a teacher that scores near chance on the data")
    views: PositiveInt = Field(4, description="random views of each training image whose logits are computed once")
    view_shift: Fraction = Field(0.1, description="largest shift of a view, as a share of the image's side")
    view_flip: Annotated[Literal["auto", "yes", "no"], YesOrNo] = Field(
        "auto", description="mirror views left to right; auto: only if the teacher does not mind"
    )
    mode: Literal["fixed", "joint"] = Field(
        "fixed",
        description="fixed: as it is, its logits computed once; joint: a copy is trained along with the students, its "
        "forward pass in each step",
    )
    learning_rate: Rate = Field(1e-4, description="joint: of the teacher, at its peak; warm-up and decay as distill's")
    mutual_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="joint: weight of the students' answers in the teacher's loss, beside the labels (1706.00384)"
    )
    feature_layer: str | None = Field(
        None,
        description="layer whose output the students learn where distill.init is features (default: what enters the "
        "layer of the logits)",
    )


class DataConfig(Section):
    """The labelled examples."""

    path: str = Field(
        description="an image folder (a class a sub-folder, with or without train/ and test/), a .npz file, "
        "TFRecord files (a folder or a pattern), or the word digits"
    )
    format: Literal["auto", "folder", "npz", "tfrecord", "digits"] = Field(
        "auto", description="what path holds; auto: as it looks"
    )
    height: PositiveInt | None = Field(None, description="rows; images are resized to it (default: the teacher's)")
    width: PositiveInt | None = Field(None, description="columns (default: the teacher's)")
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour (default: the teacher's)")
    classes: list[ClassName] | None = Field(
        None, description="class names in the teacher's order (default: the data's)"
    )
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="share of the training images kept apart to choose epochs and models"
    )
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="share kept for the final figures, where the data has no test part of its own"
    )
    image_feature: str = Field("image/encoded", description="TFRecord: name of the image feature")
    label_feature: str = Field("image/class/label", description="TFRecord: name of the label feature")
    unlabeled: str | None = Field(
        None,
        description="images without labels, for distill.init: features: a folder of any depth, a .npz file (images) or "
        "TFRecord files",
    )
    max_bad_fraction: Fraction = Field(0.01, description="share of unreadable images that is skipped and counted")


class StudentSize(Section):
    """How large a student may be: one of the three."""

    multiplier: Rate | None = Field(None, description="of the default large student's bytes")
    size_bytes: Bytes | None = Field(None, description="at most so many bytes as int8 .tflite")
    macs: Count | None = Field(None, description="at most so many multiply-accumulates an image")

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        if value is None:
            return {}
        return {"multiplier": value} if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _one_rule(self) -> "StudentSize":
        if sum(v is not None for v in (self.multiplier, self.size_bytes, self.macs)) > 1:
            raise ValueError("only one of multiplier, size_bytes and macs may be given")
        return self


class StudentsConfig(Section):
    """The family to train: two to six students, smallest first."""

    sizes: dict[str, StudentSize] = Field(
        {"small": StudentSize(), "medium": StudentSize(), "large": StudentSize()},
        description="a name (tiny, small, medium, large, xlarge) alone, or with a multiplier, {size_bytes: 24KB} "
        "or {macs: 2M}",
        min_length=2,
        max_length=6,
    )
    module: str | None = Field(
        None, description="your own students instead: FILE.py:FUNCTION, see docs/own_students.md; sizes does not apply"
    )

    @model_validator(mode="after")
    def _one_architecture(self) -> "StudentsConfig":
        if self.module is not None and self.sizes != type(self).model_fields["sizes"].default:
            raise ValueError("only one of sizes and module may be given: a module's students have the sizes it builds")
        return self


class DistillConfig(Section):
    """Joint training of the family from the teacher's logits."""

    epochs: PositiveInt = Field(30, description="over the training images, a view of each")
    batch_size: PositiveInt = Field(128, description="images a step, of all workers together")
    learning_rate: Rate = Field(2e-2, description="peak, after the warm-up; cosine decay to zero")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(1.0, description="of a learning rate that rises from zero")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="decoupled (AdamW, 1711.05101)")
    temperature: Rate = Field(4.0, description="softens teacher and student logits (1503.02531)")
    soft_weight: Fraction = Field(0.9, description="weight of the teacher's logits against the labels")
    in_place_weight: Fraction = Field(
        0.0, description="weight of larger students' logits as a teacher of the smaller ones (1903.05134)"
    )
    in_place_from: Literal["largest", "larger"] = Field(
        "largest", description="which those are: the largest student alone, or all that are larger, each as much"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of a label's weight that is spread over all classes (1512.00567)"
    )
    student_weights: dict[str, Rate] = Field({}, description="weight of a student's loss, by name (default 1)")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(0.99, description="of the weights' moving average; 0: none")
    patience: PositiveInt | None = Field(
        None, description="epochs without a better validation accuracy before stopping"
    )
    init: str = Field(
        "none",
        description="what the students begin as, where data is scarce: none (at random), features (they first learn to "
        "predict the teacher's, on data.unlabeled too), or the output folder of an earlier run with the same sizes",
    )
    init_epochs: PositiveInt = Field(10, description="of learning the teacher's features, where init is features")
    strategy: Literal["none", "mirrored", "multi_worker"] = Field(
        "none",
        description="where Distiller, Pruner and Quantizer train: on one device, mirrored on all of this machine's, or "
        "with the workers that TF_CONFIG names, see docs/distribution.md",
    )


def _share_or(parse: Any) -> BeforeValidator:
    """Reads 0.5 or 50% as a share, everything else with `parse`."""

    def read(value: Any) -> Any:
        text = str(value).strip()
        number = text.removesuffix("%").strip()
        try:
            share = float(number) / (100 if text.endswith("%") else 1)
        except ValueError:
            return parse(value)
        if isinstance(value, bool) or (share >= 1 and not text.endswith("%")):
            return parse(value)
        if not 0 < share < 1:
            raise ValueError(f"a share must be above 0 and below 1; got {value}. Write for example 0.5 or 50%")
        return share

    return BeforeValidator(read)


class ChannelTarget(Section):
    """How much thinner the largest student shall be; where several are given, all of them hold."""

    fraction: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="so many of its channels go, as 0.3")
    bytes: Annotated[float | int, _share_or(parse_bytes)] | None = Field(
        None, description="its int8 .tflite has at most so many bytes, as 50KB, or such a share of them, as 0.5 or 50%"
    )
    macs: Annotated[float | int, _share_or(parse_count)] | None = Field(
        None, description="it has at most so many multiply-accumulates, as 5M, or such a share of them, as 0.5 or 50%"
    )

    @model_validator(mode="after")
    def _some_rule(self) -> "ChannelTarget":
        if self.fraction is None and self.bytes is None and self.macs is None:
            raise ValueError("fraction, bytes or macs must be given; got none of them. Write {bytes: 50%}")
        return self


class PruneConfig(Section):
    """Making the students thinner (fewer channels) and sparser (zeros in the kernels)."""

    channels: ChannelTarget | None = Field(
        None,
        description="remove whole channels until the largest student has {bytes: 50%} or {bytes: 50KB} as int8, "
        "{macs: 50%} or {macs: 5M}, both {bytes: 50%, macs: 60%}, or is without {fraction: 0.3} of its channels; the "
        "smaller ones lose the same share (default: none)",
    )
    criterion: Literal["taylor", "magnitude"] = Field(
        "taylor",
        description="which channels matter least: taylor, by how the loss would change (1906.10771), or magnitude, by "
        "their weights",
    )
    channel_epochs: PositiveInt = Field(10, description="of fine-tuning once the channels are gone")
    channel_learning_rate: Rate = Field(2e-3, description="of that, at the start; cosine decay to zero")
    sparsity: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5,
        description="share of zeros in the pruned kernels (magnitude pruning); 0: none. Biases, batch normalization, "
        "depthwise kernels and the first convolution stay dense",
    )
    block: Literal["1x1", "1x4"] = Field("1x1", description="zeros singly or in blocks")
    epochs: PositiveInt = Field(6, description="of fine-tuning while the sparsity rises (1710.01878)")
    learning_rate: Rate = Field(1e-3, description="at the start; cosine decay to zero")
    sensitivity_images: NonNegativeInt = Field(
        256,
        description="validation images by which each layer's sensitivity is measured, to spread zeros and removed "
        "channels over the layers; 0: not measured, zeros spread evenly",
    )


class QuantizeConfig(Section):
    """Training for 8-bit arithmetic, and the files that come out."""

    epochs: NonNegativeInt = Field(4, description="of quantization-aware training; 0: quantize after training only")
    learning_rate: Rate = Field(5e-4, description="at the start; cosine decay to zero")
    variants: list[Variant] = Field(
        ["float32", "int8"], description="float32, float16, dynamic, int8, uint8", min_length=1
    )
    calibration_images: PositiveInt = Field(256, description="training images that set ranges")
    rescue: bool = Field(
        False, description="where int8 loses too much, write a further file with the layers that lose most in float"
    )
    rescue_drop: Fraction = Field(
        0.005, description="accuracy on the validation split that int8 may lose against float32 before it is rescued"
    )
    rescue_layers: PositiveInt = Field(4, description="layers of a rescued file that may be in float")
    teacher_variants: list[TeacherVariant] = Field(
        ["float16", "dynamic", "int8"],
        description="the teacher itself, plainly converted, to compare with: float32, float16, dynamic, int8; []: none",
    )


class EvaluateConfig(Section):
    """What is measured of every file."""

    top_k: PositiveInt = Field(5, description="a prediction counts if the label is among so many")
    threads: list[PositiveInt] = Field([1], description="latency is measured with each number of threads", min_length=1)
    latency_runs: PositiveInt = Field(50, description="timed invocations a file and thread count")
    device_results: str | None = Field(None, description="a JSON file of figures measured on a phone")


class SelectConfig(Section):
    """The limits, and what is best within them. Accuracies are those of the validation split."""

    max_size: Bytes | None = Field(None, description="of the file, such as 60KB")
    max_latency_ms: Rate | None = Field(None, description="median of an invocation, in milliseconds")
    max_macs: Count | None = Field(None, description="multiply-accumulates of an image, such as 2M")
    min_accuracy: Fraction | None = Field(None, description="top-1")
    max_accuracy_drop: Fraction | None = Field(None, description="below the teacher")
    objective: Literal["accuracy", "size", "latency", "knee"] = Field(
        "accuracy", description="what is best within the limits; knee: the best trade of accuracy for bytes"
    )


class PipelineConfig(Section):
    """How the run itself is done."""

    name: str = Field(
        "learn2compress", pattern=r"^[a-z][a-z0-9-]{1,40}$", description="of the pipeline: an output folder holds one"
    )
    seed: NonNegativeInt = Field(0, description="of views, initial weights and the order of images")
    workers: PositiveInt = Field(1, description="processes of Beam's DirectRunner")
    beam_args: list[str] = Field([], description="further Beam arguments, to use another runner")
    metadata: str | None = Field(
        None, description="mysql://, postgresql:// or grpc:// address (default: SQLite in the output folder)"
    )
    push_to: str | None = Field(None, description="folder to which the standard Pusher copies a blessed choice")


class NodeResources(Section):
    """What a node's container asks for."""

    cpu: Rate | None = Field(None, description="cores asked for")
    cpu_limit: Rate | None = Field(None, description="cores at most (default: as cpu)")
    memory: Quantity | None = Field(None, description="memory asked for, as 8Gi or 500M")
    memory_limit: Quantity | None = Field(None, description="memory at most (default: as memory)")
    gpu: NonNegativeInt = Field(0, description="accelerators")
    accelerator: str = Field("nvidia.com/gpu", description="the cluster's name for one")


class VolumeConfig(Section):
    """A volume that every step sees."""

    claim: str = Field(description="name of the PersistentVolumeClaim")
    mount: str = Field("/data", pattern=r"^/[^/].*$", description="where it appears in the containers")


class KubeflowConfig(Section):
    """How the same nodes run on a Kubeflow Pipelines cluster. The key `default` stands for all nodes not named."""

    image: str | None = Field(None, description="the container image that `make image` built (default: --image)")
    pipeline_root: str | None = Field(None, description="where artifacts go: s3://, gs:// or minio://BUCKET/PATH")
    teacher: str | None = Field(None, description="where the cluster finds the teacher, if not at teacher.path")
    data: str | None = Field(None, description="where the cluster finds the data, if not at data.path")
    resources: dict[str, NodeResources] = Field({}, description="by node: {cpu: 4, memory: 8Gi, gpu: 1}")
    fan_out: bool = Field(
        False,
        description="prune and quantize each student in tasks of its own, at the same time: Pruner-small, "
        "Quantizer-small …; it is cut out of the family first",
    )
    retries: dict[str, NonNegativeInt] = Field({}, description="by node: how often a failed step is tried again")
    cache: dict[str, bool] = Field(
        {}, description="by node: whether an earlier run's result may be taken (default: by all but StudentSelector)"
    )
    env: dict[str, str] = Field({}, description="environment variables of every step, as AWS_ENDPOINT_URL")
    secret: str | None = Field(
        None, description="secret with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, to read teacher and data"
    )
    volume: VolumeConfig | None = Field(None, description="{claim: NAME, mount: /data}")


class Config(Section):
    """All of it."""

    teacher: TeacherConfig
    data: DataConfig
    students: StudentsConfig = StudentsConfig()
    distill: DistillConfig = DistillConfig()
    prune: PruneConfig = PruneConfig()
    quantize: QuantizeConfig = QuantizeConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    select: SelectConfig = SelectConfig()
    pipeline: PipelineConfig = PipelineConfig()
    kubeflow: KubeflowConfig = KubeflowConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.teacher.mode == "joint" and self.distill.strategy != "none":
            raise ValueError(
                f"distill.strategy must be none where the teacher is trained along (teacher.mode joint); got "
                f"{self.distill.strategy}"
            )
        unknown = sorted(set(self.distill.student_weights) - set(self.students.sizes))
        if unknown and self.students.module is None:  # a module's names are known once it is built
            raise ValueError(f"distill.student_weights must name students; got {unknown}")
        if self.kubeflow.fan_out and self.students.module is not None:
            raise ValueError("kubeflow.fan_out needs students.sizes: a module's students have names once it has run")
        if self.data.unlabeled is not None and self.distill.init != "features":
            raise ValueError(
                f"data.unlabeled must be left out unless distill.init is features; got {self.distill.init}, which "
                "learns nothing from images without labels"
            )
        if self.distill.init == "features" and self.students.module is not None:
            raise ValueError(
                "distill.init must be none or a folder where students.module is set; got features, which are learned "
                "by the built-in family alone"
            )
        return self


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a YAML configuration and applies overrides.

    Relative `teacher.path`, `data.path` and other paths in the file are taken from the file's folder; those in
    overrides from the working directory.

    Args:
        path: The YAML file.
        overrides: Strings such as `distill.epochs=3`; the value is read as YAML.

    Raises:
        ConfigError: The file is missing, is no YAML mapping, or a key or value is wrong.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(
            f"config {path} must be a readable file; {error.strerror}. Run `learn2compress init`."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path} must be YAML; {' '.join(str(error).split())}.") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"config {path} must be a mapping of sections; got a {type(tree).__name__}.")
    tree = {section: {} if fields is None else fields for section, fields in tree.items()}
    _anchor_paths(tree, path.parent)
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, source=str(path))


def parse_config(tree: Mapping[str, Any], source: str = "config") -> Config:
    """Checks a mapping of sections.

    Raises:
        ConfigError: One line that names the field, the rule, the value and, for an unknown key, the nearest known one.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + " ".join(_explain(e) for e in error.errors()[:3])) from error


# Words that stand where a location may, and are none.
DATA_WORDS = ("digits",)
INIT_WORDS = ("none", "features")
_WORDS = {("data", "path"): DATA_WORDS, ("distill", "init"): INIT_WORDS}
# The fields that hold locations; one of those words or a URL stays as it is.
PATH_FIELDS = (
    ("teacher", "path"),
    ("data", "path"),
    ("data", "unlabeled"),
    ("distill", "init"),
    ("students", "module"),
    ("evaluate", "device_results"),
    ("pipeline", "push_to"),
)


def _anchor_paths(tree: dict[str, Any], folder: Path) -> None:
    for section, key in PATH_FIELDS:
        values = tree.get(section)
        value = values.get(key) if isinstance(values, dict) else None
        is_word = value in _WORDS.get((section, key), ())
        if isinstance(value, str) and not is_word and "://" not in value and not Path(value).is_absolute():
            values[key] = str(folder / Path(value).expanduser())


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    section, dot, field = key.strip().partition(".")
    if not (equals and dot and section and field):
        raise ConfigError(f"--set must be SECTION.FIELD=VALUE; got {override!r}. Example: --set distill.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key} must have a YAML value; got {text!r}.") from error
    node = tree.setdefault(section, {})
    *parents, leaf = field.split(".")
    for depth, parent in enumerate(parents):
        if not isinstance(node, dict):
            break
        if node.get(parent) is None:
            # What is set by itself leaves the rest at its default: the other students go on being there.
            default = _default_mapping(section, parent) if depth == 0 else {}
            node[parent] = default
        node = node[parent]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {key} must name a field of a section; {section} is not a mapping.")
    node[leaf] = value


def _default_mapping(section: str, field: str) -> dict[str, Any]:
    """The keys that a mapping such as students.sizes has by default."""
    model = Config.model_fields.get(section)
    info = model.annotation.model_fields.get(field) if model else None
    return dict.fromkeys(info.default) if info and isinstance(info.default, dict) else {}


def _explain(error: Any) -> str:
    location = ".".join(str(part) for part in error["loc"]) or "config"
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        near = difflib.get_close_matches(key, _known_keys(error["loc"][:-1]), n=1, cutoff=0.0)
        return f"{location} is no known key." + (f" Did you mean {near[0]}?" if near else "")
    if error["type"] == "missing":
        return f"{location} must be given. Add it to the config or pass --set {location}=VALUE."
    if error["type"] == "value_error":
        return f"{location}: {error['ctx']['error']}".rstrip(".") + "."
    if error["type"] in ("too_long", "too_short"):
        limits, given = error["ctx"], ", ".join(map(str, error["input"])) or "none"
        if error["type"] == "too_long":
            return f"{location} must have at most {limits['max_length']} entries; got {given}. Leave some out."
        return f"{location} must have at least {limits['min_length']}; got {given}. Add to it, or leave it out."
    rule = error["msg"][0].lower() + error["msg"][1:]
    default = _default_value(error["loc"])
    remedy = "" if default is None else f" The default is {default}."
    return f"{location} is wrong: {rule}; got {error['input']!r}.{remedy}"


def _default_value(location: tuple[Any, ...]) -> bool | int | float | str | None:
    """What a field has that is not given, where that is a single value."""
    section, *field = map(str, location)
    annotation = Config.model_fields[section].annotation if section in Config.model_fields else None
    if len(field) != 1 or not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return None
    info = annotation.model_fields.get(field[0])
    return info.default if info and isinstance(info.default, bool | int | float | str) else None


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location:
        if model is StudentsConfig and part == "sizes":
            return list(StudentSize.model_fields) if len(location) > 2 else []
        if model is PruneConfig and part == "channels":
            return list(ChannelTarget.model_fields)
        if model is KubeflowConfig and part == "resources":
            return list(NodeResources.model_fields) if len(location) > 2 else []
        if model is KubeflowConfig and part == "volume":
            return list(VolumeConfig.model_fields)
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)
