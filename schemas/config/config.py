# SPDX-License-Identifier: Apache-2.0
"""The whole configuration: reads a file, applies overrides, and describes errors in one line."""

import copy
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError, model_validator

from learn2compress.schemas.config.data import DataConfig
from learn2compress.schemas.config.distill import DistillConfig
from learn2compress.schemas.config.evaluate import EvaluateConfig
from learn2compress.schemas.config.kubeflow import KubeflowConfig
from learn2compress.schemas.config.pipeline import PipelineConfig
from learn2compress.schemas.config.prune import PruneConfig
from learn2compress.schemas.config.quantize import QuantizeConfig
from learn2compress.schemas.config.reading.former_names import FORMER_NAMES
from learn2compress.schemas.config.reading.origins import fill_defaults
from learn2compress.schemas.config.reading.yaml_text import MAX_BYTES, YamlTextError, read_yaml, shorten
from learn2compress.schemas.config.select import SelectConfig
from learn2compress.schemas.config.students import StudentsConfig
from learn2compress.schemas.config.teacher import TeacherConfig
from learn2compress.schemas.config.types import Section
from learn2compress.schemas.errors import ConfigError

_MAX_PART = 200
_MAX_MESSAGE = 300
_INTEGERS_BELOW = 2**63
_MAX_VALUE = 60


class Config(Section):
    """The whole configuration."""

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

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_origin(cls, values: Any) -> Any:
        return fill_defaults(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.teacher.mode == "joint" and self.distill.strategy != "none":
            raise ValueError(
                f"distill.strategy must be none if the teacher is jointly trained (teacher.mode: joint); got "
                f"{self.distill.strategy}"
            )
        unknown = sorted(set(self.distill.student_weights) - set(self.students.sizes))
        if unknown and self.students.module is None:  # the names of a module are known only after it is built
            raise ValueError(f"distill.student_weights must name students; got {unknown}")
        if self.kubeflow.fan_out and self.students.module is not None:
            raise ValueError(
                "kubeflow.fan_out needs students.sizes: a module's student names are known only after it ran"
            )
        if self.students.origin != "built_in" and self.distill.init != "none":
            raise ValueError(
                f"distill.init must be none if students.from is {self.students.origin}; got {self.distill.init}. The "
                "students begin with the teacher's weights"
            )
        if self.students.origin != "built_in" and self.teacher.mode == "joint":
            raise ValueError(f"teacher.mode must be fixed if students.from is {self.students.origin}; got joint")
        if self.teacher.view_mix:
            if self.teacher.views == 1:
                raise ValueError(
                    "teacher.views must be at least 2 with teacher.view_mix; got 1, which is the image itself alone"
                )
            if self.teacher.mode == "joint":
                raise ValueError(
                    "teacher.view_mix must be no if teacher.mode is joint; got yes. Such a teacher needs labels"
                )
            if self.distill.soft_weight == 0:
                raise ValueError(
                    "distill.soft_weight must be above 0 with teacher.view_mix; got 0, with which students learn from "
                    "labels alone, and mixes have none"
                )
        if self.distill.unlabeled in ("features", "both") and self.distill.init != "features":
            raise ValueError(
                f"distill.unlabeled must be logits unless distill.init is features; got {self.distill.unlabeled}"
            )
        if self.learns_unlabeled_logits:
            if self.teacher.mode == "joint":
                raise ValueError(
                    "data.unlabeled must be left out if the teacher is jointly trained (teacher.mode: joint), unless "
                    "distill.init is features; the logits of such a teacher are computed for labelled examples only"
                )
            if self.distill.soft_weight == 0:
                raise ValueError(
                    "distill.soft_weight must be above 0 if students learn the logits of data.unlabeled; got 0, with "
                    "which they learn from labels alone"
                )
        if self.distill.init == "features" and self.students.module is not None:
            raise ValueError(
                "distill.init must be none or a folder if students.module is set; got features, which only the "
                "built-in family supports"
            )
        return self

    @property
    def learns_unlabeled_logits(self) -> bool:
        """Whether students learn the teacher's logits on `data.unlabeled`."""
        if self.data.unlabeled is None:
            return False
        default = "features" if self.distill.init == "features" else "logits"
        return (self.distill.unlabeled or default) in ("logits", "both")


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a YAML configuration and applies overrides.

    Relative paths in the file, such as `teacher.path` and `data.path`, are relative to the file's folder; those in
    overrides are relative to the working directory.

    Args:
        path: YAML file.
        overrides: Overrides such as `distill.epochs=3`; the value is read as YAML.

    Raises:
        ConfigError: The file is missing, is not a YAML mapping, or a key or value is wrong.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:  # just enough to detect that it is too long
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


def build_config(tree: Mapping[str, Any], overrides: Iterable[str] = ()) -> Config:
    """Checks a mapping of sections that was made in memory, and applies overrides.

    Args:
        tree: Fields by section; relative paths are relative to the working directory, and become absolute.
        overrides: Overrides such as `distill.epochs=3`; the value is read as YAML.

    Raises:
        ConfigError: A key or value is wrong.
    """
    whole = copy.deepcopy({section: dict(fields) for section, fields in tree.items()})
    for override in overrides:
        _apply_override(whole, override)
    _anchor_paths(whole, Path.cwd())
    return parse_config(whole)


def parse_config(tree: Mapping[str, Any], source: str = "config") -> Config:
    """Checks a mapping of sections.

    Args:
        tree: Fields by section.
        source: Name of the configuration in error messages.

    Raises:
        ConfigError: A key or value is wrong. The message is one line with the field, the rule, the value and, for an
            unknown key, the nearest known one.
    """
    _check_integers(tree, source)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_one_line(source, explain_faults(error, Config))) from error


def _check_integers(tree: Mapping[str, Any], source: str) -> None:
    """Refuse integers that no parameter of a node can hold.

    Raises:
        ConfigError: There is one.
    """
    pending: list[tuple[str, Any]] = [("", tree)]
    while pending:
        place, value = pending.pop()
        if isinstance(value, Mapping):
            pending += [(f"{place}.{key}".removeprefix("."), one) for key, one in value.items()]
        elif isinstance(value, list):
            pending += [(place, one) for one in value]
        elif isinstance(value, int) and abs(value) >= _INTEGERS_BELOW:
            problem = f"{shorten(place, 60)} must be below 2^63; got a number of {value.bit_length()} bits. Correct it."
            raise ConfigError(_one_line(source, [problem]))


def section_types() -> dict[str, type[Section]]:
    """Maps the name of each section to its class."""
    types: dict[str, Any] = {name: info.annotation for name, info in Config.model_fields.items()}
    return types


# Words that may be given instead of a location.
DATA_WORDS = ("digits",)
INIT_WORDS = ("none", "features")
_WORDS = {("data", "path"): DATA_WORDS, ("distill", "init"): INIT_WORDS}
# Fields with locations; these words and URLs are not changed.
PATH_FIELDS = (
    ("teacher", "path"),
    ("teacher", "tokenizer"),
    ("teacher", "vocabulary"),
    ("data", "path"),
    ("data", "unlabeled"),
    ("distill", "init"),
    ("students", "latency_table"),
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
            # The other entries keep their defaults: the other students are not removed.
            default = _default_mapping(section, parent) if depth == 0 else {}
            node[parent] = default
        node = node[parent]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {key} must name a field of a section; {section} is not a mapping.")
    if not parents:
        # Under either of its names, the override replaces the value in the file.
        for former, name in FORMER_NAMES.get(section, {}).items():
            if leaf in (former, name):
                node.pop(former, None)
                leaf = name
    node[leaf] = value


def _default_mapping(section: str, field: str) -> dict[str, Any]:
    """Returns the default keys of a mapping such as students.sizes."""
    info = section_types()[section].model_fields.get(field) if section in Config.model_fields else None
    return dict.fromkeys(info.default) if info and isinstance(info.default, dict) else {}


def _one_line(source: str, problems: list[str]) -> str:
    """Joins the problems that fit into one line, at least the first one."""
    line = f"{source if len(source) <= _MAX_VALUE else '…' + source[1 - _MAX_VALUE :]}:"
    for number, problem in enumerate(problems):
        text = " ".join(shorten(problem, _MAX_PART).split())
        if number == 0 or len(line) + len(text) < _MAX_MESSAGE:
            line += f" {text}"
    return line


def explain_faults(error: ValidationError, model: type[BaseModel], place: str = "") -> list[str]:
    """Describes the first faults of a configuration, each in a sentence or two.

    Args:
        error: Error of the validation of `model`.
        model: Class of the configuration, or of a part of it.
        place: Path of the part in the configuration, such as `prune.passes.my_pass`; empty for the whole.

    Returns:
        Descriptions of at most three faults.
    """
    return [_explain(fault, model, place) for fault in error.errors()[:3]]


def _explain(error: Any, model: type[BaseModel], place: str) -> str:
    location = shorten(".".join([*filter(None, [place]), *map(str, error["loc"])]) or "config", _MAX_VALUE)
    if error["type"] == "extra_forbidden":
        key = shorten(str(error["loc"][-1]), _MAX_VALUE)
        return f"{location} is no known key.{_suggest(key, _model_at(model, error['loc'][:-1]))}"
    if error["type"] == "missing":
        override = "" if place else f" or pass --set {location}=VALUE"
        return f"{location} must be given. Add it to the config{override}."
    if error["type"] == "value_error":
        return f"{location}: {error['ctx']['error']}".rstrip(".") + "."
    if error["type"] in ("too_long", "too_short"):
        limits, given = error["ctx"], shorten(", ".join(map(str, error["input"])) or "none", _MAX_VALUE)
        if error["type"] == "too_long":
            return f"{location} must have at most {limits['max_length']} entries; got {given}. Leave some out."
        return f"{location} must have at least {limits['min_length']}; got {given}. Add to it, or leave it out."
    rule = error["msg"][0].lower() + error["msg"][1:]
    default = _default_value(model, error["loc"])
    remedy = "" if default is None else f" The default is {default}."
    return f"{location} is wrong: {rule}; got {shorten(repr(error['input']), _MAX_VALUE)}.{remedy}"


def _default_value(model: type[BaseModel], location: tuple[Any, ...]) -> bool | int | float | str | None:
    """Returns the default of a field if it is a single value."""
    parent = _model_at(model, location[:-1])
    info = parent.model_fields.get(str(location[-1])) if parent and location else None
    return info.default if info and isinstance(info.default, bool | int | float | str) else None


def _suggest(key: str, section: type[BaseModel] | None) -> str:
    """Asks whether the nearest key of a section is meant; for a former key, its present name is given as well."""
    former = section.FORMER_NAMES if section is not None and issubclass(section, Section) else {}
    near = difflib.get_close_matches(key, [*(section.model_fields if section else ()), *former], n=1, cutoff=0.0)
    if not near:
        return ""
    return (
        f" Did you mean {former[near[0]]} (formerly {near[0]})?" if near[0] in former else f" Did you mean {near[0]}?"
    )


def _model_at(model: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel] | None:
    """Finds the model at a location, through entries of lists and mappings; None if there is no model."""
    annotation: Any = model
    for part in location:
        annotation = _without_none(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            annotation = field.annotation if field else None
        else:
            annotation = (get_args(annotation) or (None,))[-1]  # type of an entry
    annotation = _without_none(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _without_none(annotation: Any) -> Any:
    """Returns the only alternative to None; None if there are several."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if len(kinds) == 1 else None
