# SPDX-License-Identifier: Apache-2.0
"""Finds passes by name: the built-in ones, and those that installed packages declare as entry points.

A package declares a pass in its pyproject.toml, under the name used in `prune.passes`:

    [project.entry-points."learn2compress.passes"]
    my_pass = "my_package.my_module:MyPass"

Since the results of such a pass depend on code outside of this package, its distribution, version and a digest of its
sources are part of the cache key and of the lineage (`pass_versions`).
"""

import difflib
import hashlib
import inspect
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from learn2compress.compression.pruning.passes.base import Pass, PassParameters
from learn2compress.compression.pruning.passes.channels import ChannelPass
from learn2compress.compression.pruning.passes.magnitude import MagnitudePass
from learn2compress.schemas.config import PassChoice, PruneConfig, explain_faults
from learn2compress.schemas.errors import ConfigError, PassError

GROUP = "learn2compress.passes"
_BUILT_IN: dict[str, type[Pass[Any]]] = {one.name: one for one in (ChannelPass, MagnitudePass)}


@dataclass(frozen=True)
class ChosenPass:
    """A pass with its parameters, ready to run.

    Attributes:
        step: Instance of the pass.
        origin: Distribution, version and digest of the sources; None for a built-in pass.
    """

    step: Pass[Any]
    origin: str | None = None


def choose_passes(prune: PruneConfig) -> tuple[ChosenPass, ...]:
    """Finds the passes that a configuration names, and checks their parameters.

    Args:
        prune: Section with the passes in order, and the parameters of the built-in ones.

    Returns:
        The passes in order.

    Raises:
        PassError: A pass is not installed, is declared twice, cannot be loaded, or is not a subclass of `Pass`.
        ConfigError: A parameter is unknown, missing or wrong.
    """
    return tuple(_choose(choice, prune) for choice in prune.passes)


def pass_versions(prune: PruneConfig) -> str:
    """Names the code of the passes that are not built in, for the cache key.

    Args:
        prune: Section with the passes.

    Returns:
        `my_pass: my-distribution 1.2+0123456789ab` for each of them, in order, joined by semicolons; empty if there are
        none.
    """
    chosen = choose_passes(prune)
    return "; ".join(f"{one.step.name}: {one.origin}" for one in chosen if one.origin)


def check_versions(prune: PruneConfig, recorded: str | None) -> None:
    """Checks that the code of the passes is the recorded one: not changed since the run started, on any machine.

    Args:
        prune: Section with the passes.
        recorded: Value of `pass_versions` when the run started.

    Raises:
        PassError: The code differs; the message names both versions.
    """
    found = pass_versions(prune)
    if recorded and recorded != found:
        raise PassError(
            f"the passes must be those that the run started with, {recorded}; got {found}. Install the same packages "
            "wherever the Pruner runs, and run again."
        )


def _choose(choice: PassChoice, prune: PruneConfig) -> ChosenPass:
    found = _entry_points(choice.name)
    built_in = _BUILT_IN.get(choice.name)
    if len(found) + (built_in is not None) > 1:
        others = [_distribution(one) for one in found] + ["learn2compress"] * (built_in is not None)
        raise PassError(
            f"pass {choice.name!r} must be declared once; got it from {' and '.join(others)}. Uninstall one of them, "
            "or rename its entry point."
        )
    if built_in is not None:
        fields = built_in.parameters_type.model_fields
        return ChosenPass(built_in(built_in.parameters_type(**{name: getattr(prune, name) for name in fields})))
    if not found:
        raise _unknown(choice.name)
    (entry_point,) = found
    kind = _load(entry_point)
    return ChosenPass(kind(_parameters(choice, kind.parameters_type)), _origin(entry_point, kind))


def _entry_points(name: str | None = None) -> list[EntryPoint]:
    """Lists the declared passes, all or those of a name; each one once, even if its package is on the path twice."""
    found = entry_points(group=GROUP) if name is None else entry_points(group=GROUP, name=name)
    return list({(one.name, one.value, _distribution(one)): one for one in found}.values())


def _distribution(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else "an unnamed distribution"


def _unknown(name: str) -> PassError:
    names = [*_BUILT_IN, *sorted(one.name for one in _entry_points())]
    near = difflib.get_close_matches(name, names, n=1)
    remedy = f"Did you mean {near[0]}?" if near else "Install the package that declares it, or correct the name."
    return PassError(f"prune.passes must name passes that are installed: {', '.join(names)}; got {name!r}. {remedy}")


def _load(entry_point: EntryPoint) -> type[Pass[Any]]:
    what = f"pass {entry_point.name!r}, {entry_point.value} of {_distribution(entry_point)},"
    try:
        kind = entry_point.load()
    except Exception as error:  # a module may raise anything while it is imported
        raise PassError(
            f"{what} must be importable; got {type(error).__name__}: {' '.join(str(error).split())}. Correct the entry "
            "point or the module, or install what it imports."
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Pass)):
        raise PassError(f"{what} must be a subclass of Pass; got {kind!r}. Name the class in the entry point.")
    if inspect.isabstract(kind):
        raise PassError(f"{what} must define run(work, context); it does not. Define it.")
    if getattr(kind, "name", None) != entry_point.name:
        raise PassError(
            f"{what} must have the name of its entry point; got name {getattr(kind, 'name', None)!r}. Make them equal."
        )
    declared = kind.parameters_type
    if not (isinstance(declared, type) and issubclass(declared, PassParameters)):
        raise PassError(f"{what} must declare its parameters in a subclass of PassParameters; got {declared!r}.")
    return kind


def _parameters(choice: PassChoice, declared: type[BaseModel]) -> BaseModel:
    try:
        return declared.model_validate(choice.parameters)
    except ValidationError as error:
        faults = explain_faults(error, declared, f"prune.passes.{choice.name}")
        raise ConfigError(f"{' '.join(faults)} {_described(choice.name, declared)}") from error


def _described(name: str, declared: type[BaseModel]) -> str:
    if not declared.model_fields:
        return f"The pass {name} has no parameters."
    fields = (f"{key} ({info.description})" if info.description else key for key, info in declared.model_fields.items())
    return f"The parameters of {name} are {', '.join(fields)}."


def _origin(entry_point: EntryPoint, kind: type[Pass[Any]]) -> str:
    digest = _digest(_sources(kind.__module__))
    version = entry_point.dist.version if entry_point.dist else "0"
    return f"{_distribution(entry_point)} {version}+{digest}"


def _sources(module: str) -> dict[str, Path]:
    """Lists the files that a module's results depend on: all Python files of its outermost package, or its own file.

    A package without `__init__` (a namespace) may belong to several distributions and is not included.
    """
    parts = module.split(".")
    for end in range(1, len(parts)):
        package = sys.modules.get(".".join(parts[:end]))
        origin = getattr(package, "__file__", None)
        if origin and hasattr(package, "__path__"):
            folder = Path(origin).parent
            return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    own = Path(inspect.getfile(sys.modules[module]))
    return {own.name: own}


def _digest(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
