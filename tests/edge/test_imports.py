"""What a device loads."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = (
    "tensorflow", "keras", "faiss", "pandas", "scipy", "sklearn", "torch", "flask", "fastapi", "starlette", "aiohttp",
    "django", "uvicorn", "cryptography", "typer", "rich", "click", "cloud_broker", "converters", "evaluation", "coda",
)  # fmt: skip


def test_the_device_loads_nothing_large() -> None:
    """Importing every module of `edge`, and a runtime, brings no training framework, server or command line."""
    code = (
        "import sys, pkgutil, importlib, edge\n"
        "for module in pkgutil.iter_modules(edge.__path__):\n"
        "    importlib.import_module('edge.' + module.name)\n"
        "from edge.learning.runtime import load_runtime\n"
        "load_runtime()\n"
        "print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(FORBIDDEN) & set(done.stdout.split())
