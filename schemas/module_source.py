# SPDX-License-Identifier: Apache-2.0
"""The source of a user-defined architecture.

It is handed on as text and not as a path, so that it works on a cluster in the same way, is part of the cache key, and
is recorded in the lineage with its digest.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learn2compress.schemas.errors import StudentModuleError

DEFAULT_FUNCTION = "build"
# On a cluster it is part of a single argument, which Linux limits to 128 KiB.
MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class ModuleSource:
    """A Python file and the function to call in it.

    Attributes:
        name: Name of the file without its folder.
        function: Name of the function that builds the students.
        text: Content of the file.
    """

    name: str
    function: str
    text: str

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def to_parameters(self) -> dict[str, str]:
        """Encodes the source as parameters of a node."""
        return {
            "module_name": self.name,
            "module_function": self.function,
            "module_sha256": self.sha256,
            "module_text": self.text,
        }

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "ModuleSource | None":
        """Decodes the source from a node's parameters; None if they have none."""
        if not parameters.get("module_text"):
            return None
        return cls(*(parameters[f"module_{field}"] for field in ("name", "function", "text")))


def read_module(setting: str) -> ModuleSource:
    """Reads the file that students.module names.

    Args:
        setting: Value of students.module, such as `my_students.py:build`; the default function is `build`.

    Returns:
        The source.

    Raises:
        StudentModuleError: The file cannot be read, is not text, or is too long for a parameter.
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
            f"students.module must be at most {MOST_BYTES:,} bytes, since it is a parameter; {path} has "
            f"{len(content):,}. Install what it needs as a package."
        )
    if "{{$" in text:
        raise StudentModuleError(
            f"students.module must not contain '{{{{$', which Kubeflow replaces; {path} does. Write it in another way."
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
