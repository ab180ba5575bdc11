"""One decoder under libFuzzer: `python -m benchmarks.fuzz.guided DECODER MESSAGES SEED`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["protocol", "profiling"]):
    from benchmarks.fuzz.examples import examples
    from benchmarks.fuzz.targets import targets

_MAX_RSS_MIB = 1024


def main() -> None:
    """Run; libFuzzer ends the process, with 0 if nothing was found."""
    name, messages, seed = sys.argv[1:]
    target = next(one for one in targets(examples()) if one.name == name)

    def one_input(data: bytes) -> None:
        with contextlib.suppress(*target.refusals):
            target.read(target.finish(data))

    with tempfile.TemporaryDirectory() as folder:
        for number, good in enumerate(target.seeds):
            (Path(folder) / str(number)).write_bytes(good)
        options = [f"-runs={messages}", f"-seed={seed}", f"-rss_limit_mb={_MAX_RSS_MIB}", "-verbosity=0", "-timeout=5"]
        atheris.Setup([sys.argv[0], folder, *options], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
