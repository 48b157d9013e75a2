#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes .venv: finds a Python, installs the pinned requirements by hash, then this project in editable form.
# A second run compares a stamp and returns at once.
#
#   LEARN2COMPRESS_PYTHON=/path/to/python scripts/setup.sh     to choose the Python
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python.sh
. scripts/uv.sh
folder=$(pwd -P)
stamp=.venv/learn2compress-setup
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300}      # one wheel holds half a gigabyte

die() {
    printf 'setup: %s\n' "$*" >&2
    exit 2
}

# Checksum of the files that determine the contents of the environment.
contents() { cat "$1" pyproject.toml scripts/setup.sh | cksum; }

# --- Is there anything to do? ---
made_folder='' made_python='' made_version='' made_contents=''
if [ -f "$stamp" ]; then
    { IFS= read -r made_folder && IFS= read -r made_python && IFS= read -r made_version; } < "$stamp" || true
    made_contents=$(sed -n 4p "$stamp")
fi
# A moved folder breaks the scripts in .venv/bin, and a missing Python breaks all of it; then .venv is made again.
if [ "$made_folder" = "$folder" ] && .venv/bin/python -c '' 2>/dev/null \
        && [ "${LEARN2COMPRESS_PYTHON:-$made_python}" = "$made_python" ] \
        && requirements=$(requirements_for "$made_version"); then
    keep=yes python=$made_python version=$made_version
    if [ "$made_contents" = "$(contents "$requirements")" ]; then exit 0; fi
else
    keep=no
fi

# --- Which Python? ---
if [ "$keep" = no ]; then
    wanted=$(wanted_versions) || exit 2
    if [ -n "${LEARN2COMPRESS_PYTHON:-}" ]; then
        python=$LEARN2COMPRESS_PYTHON
        result=$(probe "$python")
        version=$(echo "$result" | sed -n 's/^ok \([0-9]*\.[0-9]*\)\..*/\1/p')
        case " $wanted " in
            *" ${version:-none} "*) ;;
            *) die "LEARN2COMPRESS_PYTHON must be a Python of version ${wanted// / or } here; $python ${result/#ok/is Python}." ;;
        esac
    else
        tried=$(mktemp)
        trap 'rm -f "$tried"' EXIT
        if found=$(find_python "$wanted" 2>"$tried"); then
            version=${found%% *} python=${found#* }
        else
            # uv fetches a Python for the newest stack that this machine can run.
            case " $wanted " in *" 3.13 "*) version=3.13 ;; *) version=3.10 ;; esac
            echo "No Python ${wanted// / or } was found; uv fetches $version ..."
            if uv=$(find_uv "$(any_python)") && "$uv" python install "$version" \
                    && found=$(find_python "$version" 2>>"$tried"); then
                python=${found#* }
            else
                {
                    echo "setup: a Python ${wanted// / or } must be installed, and uv could not fetch one. These were tried:"
                    sort -u "$tried"
                    echo "Install one (with pyenv: pyenv install $version; on Debian 13 and Ubuntu 24.04:" \
                         "apt-get install python3 python3-dev python3-venv g++), or name one:" \
                         "LEARN2COMPRESS_PYTHON=/path/to/python$version make setup"
                } >&2
                exit 2
            fi
        fi
    fi
    requirements=$(requirements_for "$version")
fi

# pyfarmhash, which TensorFlow Data Validation needs, comes as C++ source only.
type -P c++ >/dev/null || type -P g++ >/dev/null || type -P clang++ >/dev/null \
    || die "a C++ compiler must be there, because one dependency (pyfarmhash) is compiled; none is on PATH. Install one (Debian, Ubuntu: apt-get install g++; macOS: xcode-select --install)."

# --- Make it ---
uv=${uv:-$(find_uv "$python")}
if [ "$keep" = no ]; then
    if [ -e .venv ] && [ ! -f .venv/pyvenv.cfg ]; then
        die ".venv must be a virtual environment or not be there; got something else. Move it out of the way."
    fi
    echo "Making .venv with $("$python" --version), $python"
    rm -rf .venv
    "$uv" venv --quiet --no-project --python "$python" .venv
fi
# Without its last line the stamp marks an unfinished installation.
printf '%s\n' "$folder" "$python" "$version" > "$stamp"
echo "Installing $(grep -c '==' "$requirements") packages from $requirements (minutes the first time, about 3 GB) ..."
# Packages that are distributed as source are also built with the pinned setuptools.
"$uv" pip sync --quiet --python .venv/bin/python --require-hashes --build-constraints "$requirements" "$requirements" \
    || die "the packages must install; uv states the cause above. Fix it and run this again; downloaded packages are kept."
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
contents "$requirements" >> "$stamp"
echo "Ready: .venv/bin/learn2compress"
