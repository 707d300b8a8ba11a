#!/bin/sh
# slim.sh: leave in /flat what a container needs of a Debian base that installs nothing: neither
# pip nor apt with its perl nor documents nor caches. Licences stay, and the list of packages, which
# scanners read.
set -eu

find /usr/share/doc -type f ! -name copyright -delete
rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/python-wheels \
    /usr/bin/apt* /usr/lib/apt /usr/lib/x86_64-linux-gnu/libapt-* \
    /usr/bin/perl* /usr/lib/x86_64-linux-gnu/perl-base /usr/lib/x86_64-linux-gnu/gconv \
    /var/cache/* /var/lib/apt/lists/* /var/log/* /root/.cache /tmp/*
for place in /usr/lib/python3/dist-packages /usr/local/lib/python3.*/site-packages; do
    rm -rf "$place"/pip* "$place"/setuptools* "$place"/wheel* "$place"/pkg_resources
done
# The images bring their own bytecode.
find /usr/lib/python3* /usr/local/lib -depth \( -name __pycache__ -o -name ensurepip \) -exec rm -rf {} +

# Neither what Docker mounts for the build nor a time of this build, so that the same base gives
# the same layer.
tar -C / --one-file-system --mtime="@${SOURCE_DATE_EPOCH}" --clamp-mtime -cf /flat.tar \
    --exclude=./flat.tar --exclude=./slim.sh --exclude=./etc/hosts --exclude=./etc/hostname \
    --exclude=./etc/resolv.conf --exclude=./etc/mtab .
mkdir /flat
tar -C /flat -xpf /flat.tar
rm /flat.tar
