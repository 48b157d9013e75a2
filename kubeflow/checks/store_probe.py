# SPDX-License-Identifier: Apache-2.0
"""What the probe's pod runs: writes a small file below the pipeline root, reads it back, removes it."""

import sys

from learn2compress.schemas.errors import Learn2CompressError
from learn2compress.storage.object_store import check_access


def main(arguments: list[str]) -> int:
    """Tries the store.

    Args:
        arguments: The pipeline root.

    Returns:
        The exit status: 0, or that of the error, which is the last line on standard error.
    """
    try:
        check_access(arguments[0])
    except Learn2CompressError as error:
        print(f"learn2compress: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
