# SPDX-License-Identifier: Apache-2.0
"""All sections together: reading a file, overrides, and what is wrong with either in one line."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator

from learn2compress.schemas.config.data import DataConfig
from learn2compress.schemas.config.distill import DistillConfig
from learn2compress.schemas.config.evaluate import EvaluateConfig
from learn2compress.schemas.config.kubeflow import KubeflowConfig, NodeResources, VolumeConfig
from learn2compress.schemas.config.pipeline import PipelineConfig
from learn2compress.schemas.config.prune import ChannelTarget, PruneConfig
from learn2compress.schemas.config.quantize import QuantizeConfig
from learn2compress.schemas.config.select import SelectConfig
from learn2compress.schemas.config.students import StudentsConfig, StudentSize
from learn2compress.schemas.config.teacher import TeacherConfig
from learn2compress.schemas.config.types import Section
from learn2compress.schemas.config.yaml_text import MAX_BYTES, YamlTextError, read_yaml, shorten
from learn2compress.schemas.errors import ConfigError

_MAX_PART = 200
_MAX_MESSAGE = 300
_MAX_VALUE = 60


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
        with path.open("rb") as file:  # no more than is needed to see that it is too long
            tree = read_yaml(file.read(MAX_BYTES + 4).decode("utf-8")) or {}
    except (OSError, ValueError) as error:
        if isinstance(error, YamlTextError):
            raise ConfigError(f"config {path} {error}. Correct it there.") from error
        if isinstance(error, UnicodeDecodeError):
            raise ConfigError(f"config {path} must be YAML; it is not text in UTF-8. Save it as such.") from error
        reason = error.strerror if isinstance(error, OSError) else error  # ValueError: a NUL in the path
        raise ConfigError(f"config {path} must be a readable file; {reason}. Run `learn2compress init`.") from error
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
        raise ConfigError(_one_line(source, [_explain(e) for e in error.errors()[:3]])) from error


def section_types() -> dict[str, type[Section]]:
    """The class of each section, by its name in the file."""
    types: dict[str, Any] = {name: info.annotation for name, info in Config.model_fields.items()}
    return types


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
        if not isinstance(values, dict):
            continue
        value = values.get(key)
        is_word = value in _WORDS.get((section, key), ())
        if isinstance(value, str) and not is_word and "://" not in value and not Path(value).is_absolute():
            values[key] = str(folder / _expand_user(section, key, value))


def _expand_user(section: str, key: str, value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{section}.{key} must be a path; {shorten(value, 60)!r} names no user's home. Write the folder itself."
        ) from error


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    section, dot, field = key.strip().partition(".")
    if not (equals and dot and section and field):
        given = shorten(override, 60)
        raise ConfigError(f"--set must be SECTION.FIELD=VALUE; got {given!r}. Example: --set distill.epochs=3")
    try:
        value = read_yaml(text)
    except YamlTextError as error:
        raise ConfigError(f"--set {shorten(key, 60)} must have a YAML value; got {shorten(text, 60)!r}.") from error
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
    info = section_types()[section].model_fields.get(field) if section in Config.model_fields else None
    return dict.fromkeys(info.default) if info and isinstance(info.default, dict) else {}


def _one_line(source: str, problems: list[str]) -> str:
    """As many problems, the first at least, as fit into a line."""
    line = f"{source if len(source) <= _MAX_VALUE else '…' + source[1 - _MAX_VALUE :]}:"
    for number, problem in enumerate(problems):
        text = " ".join(shorten(problem, _MAX_PART).split())
        if number == 0 or len(line) + len(text) < _MAX_MESSAGE:
            line += f" {text}"
    return line


def _explain(error: Any) -> str:
    location = shorten(".".join(str(part) for part in error["loc"]) or "config", _MAX_VALUE)
    if error["type"] == "extra_forbidden":
        key = shorten(str(error["loc"][-1]), _MAX_VALUE)
        near = difflib.get_close_matches(key, _known_keys(error["loc"][:-1]), n=1, cutoff=0.0)
        return f"{location} is no known key." + (f" Did you mean {near[0]}?" if near else "")
    if error["type"] == "missing":
        return f"{location} must be given. Add it to the config or pass --set {location}=VALUE."
    if error["type"] == "value_error":
        return f"{location}: {error['ctx']['error']}".rstrip(".") + "."
    if error["type"] in ("too_long", "too_short"):
        limits, given = error["ctx"], shorten(", ".join(map(str, error["input"])) or "none", _MAX_VALUE)
        if error["type"] == "too_long":
            return f"{location} must have at most {limits['max_length']} entries; got {given}. Leave some out."
        return f"{location} must have at least {limits['min_length']}; got {given}. Add to it, or leave it out."
    rule = error["msg"][0].lower() + error["msg"][1:]
    default = _default_value(error["loc"])
    remedy = "" if default is None else f" The default is {default}."
    return f"{location} is wrong: {rule}; got {shorten(repr(error['input']), _MAX_VALUE)}.{remedy}"


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
