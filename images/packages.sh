#!/bin/sh
# packages.sh LOCK…: install lock files into /opt/hearloop, with the same bytes on each build; what
# the image takes is /image, folders above included, because copying gives these a new time.
# Called by the Dockerfiles' first stages only. A certificate bundle may come as the secret `ca`,
# pip's configuration as the secret `pip.conf`.
set -eu

python3 -c 'import sys
if sys.version_info[:2] != (3, 11):
    sys.exit(f"BASE_IMAGE has Python {sys.version.split()[0]}; the lock files are for Python 3.11.")'

if [ -f /run/secrets/ca ]; then
    export PIP_CERT=/run/secrets/ca
fi
# kfp-server-api alone comes as a source archive; this builds it.
echo setuptools==84.2.1 >/tmp/build.txt
export PIP_CONSTRAINT=/tmp/build.txt
if [ ! -L /opt ]; then
    mkdir -p /image/opt
    rmdir /opt
    ln -s /image/opt /opt
fi
[ -x /opt/hearloop/bin/python ] || python3 -m venv --without-pip /opt/hearloop
for lock in "$@"; do
    python3 -m pip --disable-pip-version-check --python /opt/hearloop/bin/python install \
        --root-user-action=ignore --no-deps --only-binary=:all: --no-binary=kfp-server-api --no-compile -r "$lock"
done

# What no request ever reads: tests, clients of every AWS service but the two
# that we call, and what onnxruntime ships for C programs and for converting models.
cd /opt/hearloop/lib/python3.11/site-packages
find . -type d \( -name tests -o -name test \) -not -path './torch/*' -prune -exec rm -rf {} +
[ -d onnx ] || rm -rf onnxruntime/capi/libonnxruntime.so* onnxruntime/transformers onnxruntime/tools
[ ! -d botocore/data ] ||
    find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts -exec rm -rf {} +
# Of CLDR, what languages our transcripts can be in.
[ ! -d babel ] || find babel/locale-data -name '*.dat' \
    -not -name root.dat -not -name 'en*' -not -name 'es*' -not -name 'fr*' -not -name 'it*' -not -name 'ru*' -delete
# What torchaudio has in C++ wants a torch with CUDA and keeps it from loading beside another one; its
# models, which are all that we use, do without.
[ ! -d torch ] || [ -e torch/lib/libtorch_cuda.so ] || rm -f torchaudio/lib/*.so

# pyvenv.cfg keeps its order and files their content; times are what is left that differs.
find /image -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +
