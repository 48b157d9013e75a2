# SPDX-License-Identifier: Apache-2.0
# A function that finds uv, the installer. This file is sourced, never run.

# find_uv PYTHON: prints a uv that runs here: the one on PATH, otherwise one installed with PYTHON's pip into .venv-uv.
# A uv on PATH may be a shim that fails in this folder, so it is run before it is used; 0.5 is the first version with the
# options that are used here.
find_uv() {
    local private=.venv-uv/bin/uv version
    version=$(uv --version 2>/dev/null) || version=""
    case "$version" in
        "" | "uv 0."[0-4].*) ;;
        "uv "*) echo uv; return 0 ;;
    esac
    if ! "$private" --version >/dev/null 2>&1; then
        echo "Installing uv, the installer, into .venv-uv ..." >&2
        rm -rf .venv-uv
        if ! { "$1" -m venv .venv-uv && .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check \
                   --require-hashes --only-binary :all: -r requirements/uv.txt; } >&2; then
            echo "uv must be on PATH or be installable with pip; neither worked with $1. Install uv, or give that Python" \
                 "venv and pip (Debian, Ubuntu: apt-get install python3-venv python3-pip)." >&2
            return 1
        fi
    fi
    echo "$private"
}
