"""How much memory and time reading a large table of ratings takes.

python -m benchmarks.reading --rows 20000000

The file is made up, in the layout of ml-20m; it is read in a process of its own, once as that layout and once as any
CSV, by the names of its columns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

_READ = """
import json, re, sys, time
from pathlib import Path
from evaluation.movielens import read_movielens
from evaluation.tables import TableOptions, read_table
def peak_bytes():  # the kernel's mark: getrusage would count the parent's memory in
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before, begin = peak_bytes(), time.perf_counter()
folder, kind = Path(sys.argv[1]), sys.argv[2]
columns = TableOptions(user="userId", item="movieId", rating="rating", time="timestamp", threshold=4)
data = read_movielens(folder, "made-up") if kind == "layout" else read_table(folder / "ratings.csv", columns)
elapsed_s = time.perf_counter() - begin
found = {"rows": data.reading.rows, "elapsed_s": elapsed_s, "peak_bytes": peak_bytes() - before}
print(json.dumps(found))
"""
_ITEMS, _ROWS_A_USER, _BLOCK = 27_000, 144, 1_000_000


def write_ratings(folder: Path, rows: int, seed: int = 1) -> None:
    """``ratings.csv`` and ``movies.csv`` with ``rows`` made-up ratings, as many a user and items as ml-20m has."""
    rng = np.random.default_rng(seed)
    genres = ["Action", "Comedy|Drama", "War"]
    movies = "".join(f"{item},Film {item},{genres[item % 3]}\n" for item in range(1, _ITEMS + 1))
    (folder / "movies.csv").write_text("movieId,title,genres\n" + movies)
    with (folder / "ratings.csv").open("w") as file:
        file.write("userId,movieId,rating,timestamp\n")
        for begin in range(0, rows, _BLOCK):
            count = min(_BLOCK, rows - begin)
            user = (begin + np.arange(count)) // _ROWS_A_USER + 1
            item = (rng.pareto(1.0, count) * 40).astype(np.int64) % _ITEMS + 1
            stars, time_s = rng.integers(1, 11, count) / 2, rng.integers(800_000_000, 1_400_000_000, count)
            np.savetxt(
                file, np.column_stack([user, item, stars, time_s]), fmt=["%d", "%d", "%.1f", "%d"], delimiter=","
            )


def read_apart(folder: Path, kind: str) -> dict[str, float]:
    """Read the file in another process; what it took."""
    done = subprocess.run([sys.executable, "-c", _READ, folder, kind], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Parse the command line, write, read, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="coda-reading-") as place:
        write_ratings(Path(place), rows)
        for kind in ("layout", "columns"):
            found = read_apart(Path(place), kind)
            per_row = found["peak_bytes"] / found["rows"]
            sys.stdout.write(
                f"{kind:8} {found['rows']:,} rows in {found['elapsed_s']:.1f} s, "
                f"peak {found['peak_bytes'] / 1e9:.2f} GB ({per_row:.0f} B a row)\n"
            )


if __name__ == "__main__":
    main()
