# SPDX-License-Identifier: Apache-2.0
# Functions that find a Python for one of the two supported stacks. This file is sourced, never run.
#
# A python3.10 on PATH may fail to run (a pyenv shim of an inactive version), and an installed one may not be on PATH.
# Therefore every candidate is run, and only one that works is used.

# Prints the Python versions that have a stack on this machine, best first. Fails with a message if there is none.
wanted_versions() {
    local system machine libc
    system=$(uname -s)
    machine=$(uname -m)
    case "$system $machine" in
        "Darwin arm64")
            echo "3.13 3.12"
            ;;
        "Linux x86_64")
            libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc="none"
            if ! at_least "$libc" 28; then
                echo "The C library must be glibc 2.28 or newer, because TensorFlow's wheels need it; got: $libc." \
                     "Use a newer system with glibc, such as Debian 12 or 13 or Ubuntu 24.04, or a container of one." >&2
                return 2
            fi
            # 3.10 runs TFX 1.16, the last for older Linux; the current TFX's ml-metadata needs glibc 2.39.
            if at_least "$libc" 39; then echo "3.10 3.13 3.12"; else echo "3.10"; fi
            ;;
        *)
            echo "The machine must be Linux x86_64 or macOS arm64, because TFX has wheels for no other; got:" \
                 "$system $machine. Use such a machine, or a linux/amd64 container." >&2
            return 2
            ;;
    esac
}

# at_least "glibc 2.36" 28  ->  true
at_least() {
    case "$1" in "glibc 2."*) ;; *) return 1 ;; esac
    local minor=${1#glibc 2.}
    minor=${minor%%[!0-9]*}
    [ "${minor:-0}" -ge "$2" ]
}

requirements_for() {
    case "$1" in
        3.10) echo requirements/py310-tfx1.16.txt ;;
        3.12 | 3.13) echo requirements/py313-tfx1.21.txt ;;
        *) return 1 ;;
    esac
}

# probe PYTHON: prints "ok 3.10.13", or the reason why this Python is unsuitable. Never fails.
probe() {
    local result
    if result=$("$1" -I -c '
import os, platform, struct, sys, sysconfig
version = platform.python_version()
def refuse(why):
    print(f"is Python {version}, {why}")
    raise SystemExit
try:
    import bz2, ctypes, ssl, venv, zlib
except ImportError as error:
    refuse(f"built without {error.name}")
if platform.python_implementation() != "CPython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
    refuse("not the usual CPython")
if platform.machine() != sys.argv[1] or struct.calcsize("P") != 8:
    refuse(f"built for {platform.machine()}, {8 * struct.calcsize(chr(80))} bits")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    refuse("without its C headers, which one dependency is compiled with (Debian, Ubuntu: apt-get install python3-dev)")
print("ok", version)
' "$(uname -m)" 2>&1); then
        echo "$result"
    else
        echo "does not run: $(echo "$result" | head -n 1)"
    fi
}

# candidates X.Y: prints the paths of possible Pythons, one in each line: PATH, then pyenv's versions, then uv's.
candidates() {
    local name place
    for name in "python$1" python3 python; do type -ap "$name" || true; done
    for place in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1"*/bin/"python$1" \
                 "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}"/cpython-"$1"*/bin/"python$1"; do
        if [ -x "$place" ]; then echo "$place"; fi
    done
}

# find_python "3.10 3.13": prints "VERSION PATH" of the first suitable one. Otherwise prints the candidates to stderr and
# fails.
find_python() {
    local wanted place result tried=""
    for wanted in $1; do
        while IFS= read -r place; do
            [ -n "$place" ] || continue
            result=$(probe "$place")
            case "$result" in
                "ok $wanted."*) echo "$wanted $place"; return 0 ;;
                "ok "*) result="is Python ${result#ok }" ;;
            esac
            # The same `python3` is probed for each wanted version, but listed only once.
            case "$tried" in *"    $place $result"*) ;; *) tried="$tried    $place $result"$'\n' ;; esac
        done <<< "$(candidates "$wanted")"
    done
    printf '%s' "$tried" >&2
    return 1
}

# Prints the first python3 on PATH that runs, of any version; it is used only to install uv.
any_python() {
    local place
    while IFS= read -r place; do
        if "$place" -c '' 2>/dev/null; then echo "$place"; return 0; fi
    done <<< "$(type -ap python3 || true)"
    echo python3
}
