#!/usr/bin/env bash
# Install programs from the system's package manager that are not there; say the command first.
# Arguments: PROGRAM=PACKAGE, such as mcopy=mtools.
set -euo pipefail
PATH=$PATH:/usr/sbin:/usr/local/sbin:/sbin
packages=()
for pair in "$@"; do
  command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}")
done
[ ${#packages[@]} -eq 0 ] && exit 0

if command -v apt-get >/dev/null; then install="apt-get install -y ${packages[*]}"; refresh="apt-get update"
elif command -v dnf >/dev/null; then install="dnf install -y ${packages[*]}"; refresh=true
elif command -v pacman >/dev/null; then install="pacman -S --noconfirm ${packages[*]}"; refresh=true
elif command -v brew >/dev/null; then echo "coda: brew install ${packages[*]}"; exec brew install "${packages[@]}"
else echo "coda: install ${packages[*]} and run this again" >&2; exit 1
fi

sudo=""
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null || { ! sudo -n true 2>/dev/null && ! [ -t 0 ]; }; then
    echo "coda: ${packages[*]} missing and there are no rights to install. Run:  sudo $install" >&2
    exit 1
  fi
  sudo=sudo
fi
echo "coda: $sudo $install"
export DEBIAN_FRONTEND=noninteractive
$sudo $install >/dev/null 2>&1 || { $sudo $refresh >/dev/null && $sudo $install >/dev/null; }
