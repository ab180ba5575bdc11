"""What a seeded board does by itself: install, join, start. A unit runs the script until it has worked."""

from __future__ import annotations

from importlib import resources

# Where Raspberry Pi OS (from Bookworm on) and Ubuntu mount the boot partition, and the seed's folder on it.
MOUNTED_AT = "/boot/firmware"
FOLDER = "coda"
ROOT_NAME = "root.json"
SETUP_UNIT_NAME = "coda-first-boot.service"
SERVICE_UNIT_NAME = "coda-edge.service"

SCRIPT = r"""#!/bin/sh
# Written by `coda flash`. Installs CoDA Edge, joins the fleet, starts the service; run as root.
# It is run again until it has worked: each step can be repeated, and none undoes another.
set -eu
seed=${CODA_SEED:-$(dirname "$(readlink -f "$0")")}
prefix=${CODA_PREFIX:-/opt/coda}
home=${CODA_HOME:-/var/lib/coda}
units=${CODA_UNITS:-/etc/systemd/system}

# The service's user is there only while something of the service runs; systemd gives it its folder each time.
as_service() {
  systemd-run --quiet --wait --pipe --collect --property=DynamicUser=yes --property=User=coda \
    --property=StateDirectory=coda --property=StateDirectoryMode=0700 --property=UMask=0077 "$@"
}

if [ ! -e "$prefix/.installed" ]; then
  wheels=$seed/bundle
  for archive in "$seed"/bundle/*.tar "$seed"/bundle/*.tar.* "$seed"/bundle/*.tgz; do
    [ -f "$archive" ] || continue
    rm -rf "$prefix.bundle"
    mkdir -p "$prefix.bundle"
    tar -xf "$archive" -C "$prefix.bundle"
    wheels=$prefix.bundle
  done
  wheel=$(find "$wheels" -name '*.whl' 2>/dev/null | head -n 1)
  rm -rf "$prefix"
  python3 -m venv --without-pip "$prefix"
  # Debian's python3 may come without ensurepip; a bundle brings pip's own wheel, which runs as it is.
  pip=$(find "$wheels" -name 'pip-*.whl' 2>/dev/null | head -n 1)
  if [ -n "$pip" ]; then
    set -- "$prefix/bin/python" "$pip/pip"
  else
    python3 -m ensurepip --version >/dev/null 2>&1 || apt-get install -y python3-venv
    "$prefix/bin/python" -m ensurepip
    set -- "$prefix/bin/python" -m pip
  fi
  set -- "$@" install --disable-pip-version-check --no-cache-dir
  if [ -n "$wheel" ]; then
    folder=$(dirname "$wheel")
    set -- "$@" --no-index --find-links "$folder"
    if [ -f "$folder/requirements.txt" ]; then
      # The list is whole: a 32-bit system on a 64-bit kernel would ask for what only 64 bits have.
      set -- "$@" --require-hashes --no-deps -r "$folder/requirements.txt"
    else
      set -- "$@" 'coda-edge[edge]'
    fi
  else
    set -- "$@" 'coda-edge[edge]'
  fi
  "$@"
  rm -rf "$prefix.bundle"
  touch "$prefix/.installed"
fi

# All are read here, as root: the service's user cannot read the boot partition.
for name in root.json device.toml; do
  [ -f "$home/$name" ] || [ ! -f "$seed/$name" ] ||
    as_service /bin/sh -c 'cat > "$0.new" && mv "$0.new" "$0"' "$home/$name" < "$seed/$name"
done
if [ ! -f "$home/identity.pem" ]; then
  as_service "$prefix/bin/coda" edge enroll - --dir "$home" < "$seed/token"
fi
rm -f "$seed/token"

install -m 644 "$seed/coda-edge.service" "$units/coda-edge.service"
systemctl daemon-reload
systemctl enable --now coda-edge.service
systemctl disable coda-first-boot.service 2>/dev/null || true
"""

SETUP_UNIT = f"""\
[Unit]
Description=Install CoDA Edge and join the fleet
# Certificates are refused while the clock is wrong, and most boards have none of their own.
Wants=network-online.target time-sync.target
After=network-online.target time-sync.target
RequiresMountsFor={MOUNTED_AT}
ConditionPathExists={MOUNTED_AT}/{FOLDER}/first-boot.sh
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sh {MOUNTED_AT}/{FOLDER}/first-boot.sh
Restart=on-failure
RestartSec=60

[Install]
WantedBy=multi-user.target
"""

SERVICE_UNIT = (resources.files("hardware.flash") / "units" / SERVICE_UNIT_NAME).read_text("utf-8")
