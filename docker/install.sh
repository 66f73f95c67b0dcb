#!/usr/bin/env bash
# Installs wss into the virtual environment $VENV (/opt/wss), in steps that are one layer each of an image:
#
#   docker/install.sh system        Python and a compiler, by apt; needs root
#   docker/install.sh dependencies  what pyproject.toml asks for, in the versions of constraints.txt;
#                                   TORCH_INDEX names an index with another build of torch
#   docker/install.sh package       wss itself, with its native kernels
#   docker/install.sh check         only looks whether the files of these steps are there
set -euo pipefail

source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${VENV:-/opt/wss}"
package_files=(pyproject.toml setup.py MANIFEST.in README.md data pipelines wss)

case "${1:-}" in
system)
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends g++ python3 python3-dev python3-venv
    rm -rf /var/lib/apt/lists/*
    ;;
dependencies)
    python3 -m venv "$venv"
    list='import sys, tomllib; print(*tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"], sep="\n")'
    python3 -c "$list" "$source_dir/pyproject.toml" >"$venv/requirements.txt"
    "$venv/bin/python" -m pip install --no-cache-dir --requirement "$venv/requirements.txt" \
        --constraint "$source_dir/constraints.txt" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
    ;;
package)
    # from a copy, since building leaves files behind
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    cp -r "${package_files[@]/#/$source_dir/}" "$work"
    "$venv/bin/python" -m pip install --no-cache-dir --no-deps "$work"
    "$venv/bin/wss" --version
    ;;
check)
    for name in constraints.txt "${package_files[@]}"; do
        [ -e "$source_dir/$name" ] || { echo "missing: $name" >&2; exit 1; }
    done
    ;;
*)
    echo "usage: $0 system|dependencies|package|check" >&2
    exit 2
    ;;
esac
