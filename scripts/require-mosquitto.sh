#!/usr/bin/env bash
# Install Mosquitto from the system's package manager if it is not there; say the command first.
set -euo pipefail
PATH=$PATH:/usr/sbin:/usr/local/sbin
command -v mosquitto >/dev/null && exit 0

if command -v apt-get >/dev/null; then install="apt-get install -y mosquitto"; refresh="apt-get update"
elif command -v dnf >/dev/null; then install="dnf install -y mosquitto"; refresh=true
elif command -v pacman >/dev/null; then install="pacman -S --noconfirm mosquitto"; refresh=true
elif command -v brew >/dev/null; then echo "coda: brew install mosquitto"; exec brew install mosquitto
else echo "coda: install Mosquitto 2.x (https://mosquitto.org/download) and run this again" >&2; exit 1
fi

sudo=""
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null || { ! sudo -n true 2>/dev/null && ! [ -t 0 ]; }; then
    echo "coda: Mosquitto is missing and there are no rights to install it. Run:  sudo $install" >&2
    exit 1
  fi
  sudo=sudo
fi
echo "coda: $sudo $install"
export DEBIAN_FRONTEND=noninteractive
$sudo $install >/dev/null 2>&1 || { $sudo $refresh >/dev/null && $sudo $install >/dev/null; }
