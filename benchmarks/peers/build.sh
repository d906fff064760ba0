#!/bin/sh
# An environment for each peer, of pinned versions: benchmarks/peers/build.sh DIRECTORY [PYTHON [PEER...]]
# One that is there and has these versions is left alone. All of them: about 3 GB, a few minutes.
set -eu
here=$(dirname "$0")
directory=${1:?a directory for the environments}
python=${2:-python3}
[ $# -gt 2 ] && shift 2 || set -- recbole cornac implicit polars
for peer; do
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
