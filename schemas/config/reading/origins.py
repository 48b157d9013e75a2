# SPDX-License-Identifier: Apache-2.0
"""The defaults of other sections that go with `students.from: teacher`; what the user sets comes first.

Weights of the teacher need fewer and smaller steps than random ones, counted in steps since images are few.
"""

from collections.abc import Mapping
from typing import Any

from learn2compress.schemas.config.reading.former_names import FORMER_NAMES

FROM_TEACHER: Mapping[str, Mapping[str, Any]] = {
    "teacher": {"views": 8, "view_area": 0.4, "view_colour": 0.2},
    "distill": {"steps": 400, "batch_size": 32, "learning_rate": 2e-3, "inherited_rate": 0.3},
    "prune": {"passes": []},
    "quantize": {"steps": 60, "learning_rate": 1e-4},
}
_INSTEAD_OF = {"steps": "epochs"}  # fields that are left out if the user sets the other one


def fill_defaults(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Add the defaults that go with the origin of the students to a configuration.

    Args:
        tree: Fields by section, as the user wrote them.

    Returns:
        The same with further fields, if the students are cut out of the teacher's network.
    """
    students = tree.get("students")
    origin = students.get("from") if isinstance(students, Mapping) else getattr(students, "from", None)
    if origin != "teacher":
        return dict(tree)
    filled = dict(tree)
    for section, defaults in FROM_TEACHER.items():
        given = filled.get(section)
        given = {} if given is None else given
        if not isinstance(given, Mapping):
            continue  # checked already
        former = FORMER_NAMES.get(section, {})
        present = {former.get(key, key) for key in given}
        more = {k: v for k, v in defaults.items() if k not in present and _INSTEAD_OF.get(k) not in present}
        if section == "prune" and present & {"channels", "sparsity"}:
            more.pop("passes", None)
        filled[section] = {**given, **more}
    return filled
