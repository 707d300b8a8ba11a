#!/bin/sh
# warm.sh MODULE…: byte-compile what these modules import into /bytecode, so that a container with a
# read-only root starts in seconds and the image carries no bytecode besides. Sources keep their
# times in the image, so that Python takes this bytecode as theirs. /code holds our own sources, to
# be copied to the root as /image is.
set -eu

find /code -name __pycache__ -prune -exec rm -rf {} +
find /code -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +
ln -s /code/srv/hearloop /srv/hearloop
mkdir -p /bytecode/opt/hearloop-bytecode # Python would make a folder of the root below this one

export PYTHONPATH=/srv/hearloop PYTHONPYCACHEPREFIX=/bytecode/opt/hearloop-bytecode PYTHONHASHSEED=0
for module in "$@"; do
    /opt/hearloop/bin/python -P -W ignore -c "import importlib; importlib.import_module('$module')"
done
find /bytecode -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +
