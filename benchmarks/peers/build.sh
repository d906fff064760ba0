#!/bin/sh
# An environment for each peer, of pinned versions: benchmarks/peers/build.sh DIRECTORY [PYTHON]
# One that is there and has these versions is left alone. About 3 GB, a few minutes.
set -eu
here=$(dirname "$0")
directory=${1:?a directory for the environments}
python=${2:-python3}
for peer in recbole cornac implicit; do
    environment=$directory/$peer
    if cmp -s "$here/$peer.txt" "$environment/requirements.txt"; then
        continue
    fi
    echo "building $environment" >&2
    rm -rf "$environment"
    "$python" -m venv "$environment"
    # Every version is named, so nothing else is resolved, torch least of all.
    "$environment/bin/python" -m pip install --quiet --no-deps \
        --constraint "$here/../../constraints.txt" --requirement "$here/$peer.txt"
    cp "$here/$peer.txt" "$environment/requirements.txt"
done
