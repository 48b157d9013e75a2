#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes requirements/*.txt from pyproject.toml: every package of each stack with its version and hashes, without the
# address of the registry. Pins are kept if they still satisfy pyproject.toml; --upgrade takes the newest versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python.sh
. scripts/uv.sh
uv=$(find_uv "$(any_python)")

lock() {
    local file=requirements/$1
    shift
    echo "Resolving $file ..."
    "$uv" pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --output-file "$file" "$@"
}

# The older stack: one Python, one platform. glibc 2.28 is the oldest that all its wheels run on.
lock py310-tfx1.16.txt pyproject.toml --extra dev --extra text \
    --python-version 3.10 --python-platform x86_64-manylinux_2_28 "$@"
# The current stack: markers distinguish Linux from macOS, and 3.12 from 3.13.
lock py313-tfx1.21.txt pyproject.toml --extra dev --extra text --python-version 3.12 --universal "$@"
# The installer itself, for machines without it.
lock uv.txt requirements/uv.in --python-version 3.8 --universal "$@"
