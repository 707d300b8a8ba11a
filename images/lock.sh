#!/usr/bin/env bash
# Write each image's lock file anew: its requirements.in, at the versions of constraints.txt, with
# the hashes of every file on the index. Needs uv (pip install uv).
#
# Left out of the locks: docopt, which num2words wants for its command line and which comes as a
# source archive only; Pillow and grpcio-tools where KServe alone wants them, for images that we do
# not serve and for generating code; torch and NVIDIA's libraries, which are a lock of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

lock() { # IMAGE LOCK [OPTION…]
    uv pip compile --no-config --quiet --generate-hashes --no-header --no-annotate \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --constraints constraints.txt --no-emit-package docopt "${@:3}" \
        "images/$1/$2.in" --output-file "images/$1/$2.txt"
}

torch=$(sed -nE 's/^(torch|triton|(cuda|nvidia)-[a-z0-9-]*)==.*/--no-emit-package \1/p' constraints.txt)

lock functions requirements
lock monitor requirements
lock serving requirements --no-emit-package pillow --no-emit-package grpcio-tools
# shellcheck disable=SC2086  # a list of options
lock pipeline requirements $torch
lock pipeline cuda
