# SPDX-License-Identifier: Apache-2.0
"""The text of a user's own architecture: it travels as text, not as a path, so that it works on a cluster as it does
here, is part of what the cache compares, and stands in the lineage with its digest.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learn2compress.schemas.errors import StudentModuleError

DEFAULT_FUNCTION = "build"
# A step on a cluster gets it as part of one argument, which Linux limits to 128 KiB.
MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class ModuleSource:
    """A Python file and the function to call in it.

    Attributes:
        name: The file's name, without its folder.
        function: What builds the students.
        text: All of the file.
    """

    name: str
    function: str
    text: str

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def to_parameters(self) -> dict[str, str]:
        """Writes it as a node's parameters."""
        return {
            "module_name": self.name,
            "module_function": self.function,
            "module_sha256": self.sha256,
            "module_text": self.text,
        }

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "ModuleSource | None":
        """Reads it from a node's parameters; None where they have none."""
        if not parameters.get("module_text"):
            return None
        return cls(*(parameters[f"module_{field}"] for field in ("name", "function", "text")))


def read_module(setting: str) -> ModuleSource:
    """Reads the file that students.module names.

    Args:
        setting: `my_students.py:build`; the function is `build` where none is named.

    Raises:
        StudentModuleError: It cannot be read, is no text, or is too long to travel.
    """
    place, colon, function = setting.rpartition(":")
    if not colon or "/" in function or function.endswith(".py"):
        place, function = setting, DEFAULT_FUNCTION
    if not function.isidentifier():
        raise StudentModuleError(
            f"students.module must be FILE.py:FUNCTION; got {setting}. Write my_students.py:{DEFAULT_FUNCTION}."
        )
    path = Path(place)
    _check_owner(path)
    try:
        content = path.read_bytes()
        text = content.decode()
    except OSError as error:
        raise StudentModuleError(
            f"students.module must be a readable Python file; {path}: {error.strerror}. Check the path, which is taken "
            "from the configuration's folder."
        ) from error
    except UnicodeDecodeError as error:
        raise StudentModuleError(f"students.module must be Python in UTF-8; {path}: {error}.") from error
    if len(content) > MOST_BYTES:
        raise StudentModuleError(
            f"students.module must be at most {MOST_BYTES:,} bytes, since it travels as text; {path} has "
            f"{len(content):,}. Install what it needs as a package."
        )
    if "{{$" in text:
        raise StudentModuleError(
            f"students.module must not contain '{{{{$', which Kubeflow replaces; {path} does. Write it otherwise."
        )
    return ModuleSource(path.name, function, text)


def _check_owner(path: Path) -> None:
    """Refuse to run another user's file; where all belongs to root, as in a container, nothing can be told.

    Raises:
        StudentModuleError: Another user but root owns the file.
    """
    try:
        owner = path.stat().st_uid
    except OSError:
        return  # reading it says why
    if os.geteuid() != 0 and owner not in (0, os.geteuid()):
        raise StudentModuleError(
            f"students.module must belong to the user who runs it, since it is run as Python; {path} belongs to user "
            f"{owner}. Read it, and copy it to a file of your own."
        )
