"""The front door: the `coda` command line, the demo, configuration."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("coda-edge")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
