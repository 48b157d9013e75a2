#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the container image of the pipeline's steps with docker, buildah or podman, the first that works. Further
# arguments are passed to it. `make image` runs this script.
#
#   BUILDER=podman scripts/image.sh NAME [--build-arg BASE=…]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=$1
shift

works() {
    case $1 in
        docker) docker info >/dev/null 2>&1 ;;      # the client needs a running daemon
        *) "$1" --version >/dev/null 2>&1 ;;
    esac
}

builder=${BUILDER:-}
for candidate in docker buildah podman; do
    if [ -z "$builder" ] && works "$candidate"; then builder=$candidate; fi
done
if [ -z "$builder" ]; then
    echo "image: docker, buildah or podman must be installed and working; none is. Debian: apt-get install buildah" >&2
    exit 2
fi

commit=$(git rev-parse HEAD 2>/dev/null || true)
if [ -n "$commit" ] && [ -n "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]; then
    commit=''       # the built files differ from those of the commit
fi
options=(--file kubeflow/Containerfile --tag "$name" --build-arg "COMMIT=$commit")
if [ "$builder" != docker ]; then
    # This isolation needs neither an OCI runtime nor control groups, which may be missing within a container.
    options+=(--isolation "${BUILDAH_ISOLATION:-chroot}" --layers --ulimit nofile=4096:4096 --ulimit nproc=4096:4096)
fi
echo "Building $name with $builder"
"$builder" build "${options[@]}" "$@" .
