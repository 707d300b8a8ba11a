#!/bin/sh
# slim.sh: leave of a Debian base what a container needs that installs nothing: neither pip nor
# documents nor caches. Licences stay, and the list of packages, which scanners read.
set -eu

find /usr/share/doc -type f ! -name copyright -delete
rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/python-wheels \
    /usr/lib/x86_64-linux-gnu/gconv /var/cache/* /var/lib/apt/lists/* /var/log/* /root/.cache /tmp/*
for place in /usr/lib/python3/dist-packages /usr/local/lib/python3.*/site-packages; do
    rm -rf "$place"/pip* "$place"/setuptools* "$place"/wheel* "$place"/pkg_resources
done
# The images bring their own bytecode.
find /usr/lib/python3* /usr/local/lib -depth \( -name __pycache__ -o -name ensurepip \) -exec rm -rf {} +

# No time of this build: the same base gives the same layer.
find /root /tmp /usr /var -xdev -newermt "@${SOURCE_DATE_EPOCH}" \
    -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +
