#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the digits on other engines and compares what they give with one process: `make engines`.
#
# Prism is built where Go is installed, in the version of the installed Beam; PRISM=PATH names another binary.
# Flink's cluster comes from PyPI and runs where JOB_SERVER_JAR=PATH names the jar of Beam's job server for it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
if [ -z "${PRISM:-}" ]; then
    version=$($python -c 'from importlib import metadata; print(metadata.version("apache-beam"))')
    PRISM=$PWD/build/engines/prism-$version
    if [ ! -x "$PRISM" ]; then
        if command -v go > /dev/null; then
            GOBIN=$PWD/build/engines go install "github.com/apache/beam/sdks/v2/go/cmd/prism@v$version"
            mv build/engines/prism "$PRISM"
        else
            echo "engines: Go is not installed, so Prism is left out; PRISM=PATH names a binary." >&2
            PRISM=
        fi
    fi
fi
tests=(.venv/bin/pytest -q -rs tests/e2e/test_engines.py tests/components/beam/test_retries.py)
[ -n "$PRISM" ] && export PRISM || unset PRISM
export ENGINES=1
if [ -n "${JOB_SERVER_JAR:-}" ]; then
    [ -f "$JOB_SERVER_JAR" ] || { echo "engines: JOB_SERVER_JAR must be a file; got $JOB_SERVER_JAR." >&2; exit 2; }
    exec $python scripts/flink_cluster.py --folder build/flink -- "${tests[@]}"
fi
echo "engines: without JOB_SERVER_JAR=PATH, Flink is left out." >&2
exec "${tests[@]}"
