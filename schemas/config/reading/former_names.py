# SPDX-License-Identifier: Apache-2.0
"""Former names of configuration keys. They keep working in files, in `--set` and in the parameters of earlier runs."""

from collections.abc import Mapping
from typing import Any, Final

FORMER_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "teacher": {"insist": "allow_near_chance"},
    "quantize": {
        "rescue": "mixed_precision",
        "rescue_drop": "mixed_precision_drop",
        "rescue_layers": "mixed_precision_layers",
    },
}
"""By section: the present name of each former key."""

_PARAMETERS = {
    f"{section}_{former}": f"{section}_{name}"
    for section, names in FORMER_NAMES.items()
    for former, name in names.items()
}


def use_current_keys(values: Mapping[str, Any], former_names: Mapping[str, str]) -> dict[str, Any]:
    """Renames the former keys among the fields of a section.

    Args:
        values: Fields as they were given.
        former_names: Present name of each former key.

    Raises:
        ValueError: A field is given under both of its names.
    """
    for former, name in former_names.items():
        if former in values and name in values:
            raise ValueError(f"{name} must be given once; got {name} and its former name {former}. Remove {former}")
    return {former_names.get(key, key): value for key, value in values.items()}


def use_current_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Renames the former parameters of a node, such as `quantize_rescue`; under both names, the present one counts."""
    former = {_PARAMETERS[name]: value for name, value in parameters.items() if name in _PARAMETERS}
    present = {name: value for name, value in parameters.items() if name not in _PARAMETERS}
    return former | {name: value for name, value in present.items() if value is not None or name not in former}
