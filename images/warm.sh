#!/bin/sh
# warm.sh MODULE…: byte-compile what these modules import into /opt/hearloop-bytecode, so that a
# container with a read-only root starts in seconds and the image carries no bytecode besides.
# Sources keep their times in the image, so that Python takes this bytecode as theirs.
set -eu

find /srv/hearloop -name __pycache__ -prune -exec rm -rf {} +
find /srv/hearloop -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +
cd /srv/hearloop
export PYTHONPYCACHEPREFIX=/opt/hearloop-bytecode PYTHONHASHSEED=0
for module in "$@"; do
    /opt/hearloop/bin/python -W ignore -c "import importlib; importlib.import_module('$module')"
done
mkdir -p /opt/hearloop-bytecode
find /opt/hearloop-bytecode -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +
