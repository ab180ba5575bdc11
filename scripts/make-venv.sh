#!/usr/bin/env bash
# Make the virtual environment $1 with the newest Python that has both TFLite runtimes, else any that is supported, and
# the extras $2, by default all that development takes.
set -euo pipefail
venv=$1 extras=${2:-dev}

supported() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

python=${PYTHON:-}
if [ -z "$python" ]; then
  # 3.11 first: it is the newest that tflite-runtime has wheels for, so both runtimes are tested.
  for candidate in python3.11 python3 python3.12 python3.13 python3.10; do
    if command -v "$candidate" >/dev/null && supported "$candidate"; then python=$candidate; break; fi
  done
fi
if [ -z "$python" ] || ! supported "$python"; then
  cat >&2 <<'TEXT'
coda: no usable Python 3.10-3.13 was found (with the modules venv and ensurepip).
  On Debian, Ubuntu or Raspberry Pi OS:  sudo apt-get install python3 python3-venv
  Or name one:                           make setup PYTHON=/path/to/python3.11
TEXT
  exit 1
fi

echo "coda: making $venv with $("$python" --version) (a few minutes the first time)"
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
# Compiled once here, or every process of the first demo would compile for itself, in memory that its record then shows.
"$venv/bin/python" -m compileall -q coda evaluation edge cloud_broker converters profiling protocol hardware
