#!/usr/bin/env bash
# Builds the wheel, installs it alone in a bare environment, and runs the tests and the server
# there with the sources absent. Usage: tests/wheel.sh PYTHON
set -euo pipefail
python=$(realpath -s "$1")
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --wheel --no-isolation --outdir "$work/dist" "$here" >"$work/build.log" 2>&1 ||
    { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/venv"
bin=$work/venv/bin
"$bin/pip" install --quiet --constraint "$here/constraints.txt" torch
wheel=$(echo "$work"/dist/*.whl)
"$bin/pip" install --quiet --constraint "$here/constraints.txt" "$wheel"

# the bare wheel, without any extra, runs the whole chain
cd "$work"
"$bin/recae" --version
"$bin/recae" demo -o "$work/demo" >"$work/demo.log" 2>&1 || { cat "$work/demo.log"; exit 1; }
"$bin/recae" inspect "$work/demo/model" --verify

# its tests, from a folder that holds nothing but them
"$bin/pip" install --quiet --constraint "$here/constraints.txt" "$wheel[dev]"
mkdir "$work/suite"
cp -r "$here/tests" "$here/pyproject.toml" "$work/suite/"
cd "$work/suite"
"$bin/python" -c 'import recae, sys; assert "site-packages" in recae.__file__, recae.__file__'
# what may differ in a wheel: packages and their data, entry points, templates, stored models, a server
OMP_NUM_THREADS=1 "$bin/python" -m pytest -n 2 -m "not slow and not checkout" -q tests/test_api_*.py \
    tests/test_{imports,project,cli,golden,report,service,recommenders,register,toy,listing,options}.py
echo "wheel ok: $(basename "$wheel")"
