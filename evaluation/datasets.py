"""Find a dataset by name or path: on this machine, in the cache, or from its owner.

Looked for in ``$CODA_DATA``, in ``../shared/data`` beside the checkout and beside the working directory, in the user's
cache, and then downloaded into that cache. Nothing of it ever enters the repository.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_dir

from evaluation.download import Progress, download
from evaluation.errors import DataUnavailableError
from evaluation.interactions import Interactions
from evaluation.movielens import COLON_LAYOUT, CSV_LAYOUT, TAB_LAYOUT, Layout, layout_of, read_movielens
from evaluation.synthetic import generate_synthetic
from evaluation.tables import TableOptions, read_table

_OWNER = "https://files.grouplens.org/datasets/movielens"


@dataclass(frozen=True)
class Published:
    """A dataset that its owner publishes."""

    url: str
    layout: Layout
    ratings_sha256: str | None = None
    archive_md5: str | None = None
    mpda_split_s: int | None = None  # the moment that MPDA's authors chose


PUBLISHED = {
    "ml-latest-small": Published(
        f"{_OWNER}/ml-latest-small.zip",
        CSV_LAYOUT,
        "aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646",
    ),
    "ml-100k": Published(
        f"{_OWNER}/ml-100k.zip",
        TAB_LAYOUT,
        "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
    ),
    "ml-1m": Published(f"{_OWNER}/ml-1m.zip", COLON_LAYOUT, archive_md5="c4d9eecfca2ab87c1945afe126590906"),
    "ml-20m": Published(
        f"{_OWNER}/ml-20m.zip",
        CSV_LAYOUT,
        archive_md5="cd245b17a1ae2cc31bb14903e1204af3",
        mpda_split_s=1225642324,
    ),
}


def load_dataset(
    name: str,
    *,
    table: TableOptions | None = None,
    seed: int = 1,
    progress: Progress | None = None,
    allow_download: bool = True,
) -> Interactions:
    """The dataset that ``--data`` names.

    Args:
        name: A key of `PUBLISHED`, ``synthetic``, a folder in a layout of MovieLens, or a file of any table.
        table: Which column of such a file is what.
        seed: Of the synthetic generator.
        progress: Told as a download goes on.
        allow_download: Whether the network may be used.

    Raises:
        DataUnavailableError: If there is no copy and none can be fetched; the caller may go on with ``synthetic``.
        DataIntegrityError: If a named dataset's ratings are not the published ones.
        DataFormatError: If a file is missing, or a line cannot be read.
    """
    if name == "synthetic":
        return generate_synthetic(seed=seed).interactions
    if name in PUBLISHED:
        folder = _find(name) or _fetch(name, progress, allow_download)
        return read_movielens(folder, name, ratings_sha256=PUBLISHED[name].ratings_sha256)
    path = Path(name).expanduser()
    if path.is_file():
        return read_table(path, table or TableOptions())
    if not path.is_dir():
        known = ", ".join([*PUBLISHED, "synthetic"])
        raise DataUnavailableError(
            f"{name}: neither a dataset ({known}), nor a file, nor a folder; give one of these to --data"
        )
    return read_movielens(path, path.resolve().name)


def cache_folder() -> Path:
    """Where downloads are kept."""
    return Path(user_cache_dir("coda-edge")) / "data"


def search_path() -> Iterator[Path]:
    """Folders that may hold a copy, in the order they are looked at."""
    if chosen := os.environ.get("CODA_DATA"):
        yield Path(chosen).expanduser()
    yield Path(__file__).resolve().parents[2] / "shared" / "data"
    yield Path.cwd().parent / "shared" / "data"
    yield cache_folder()


def _find(name: str) -> Path | None:
    # A folder counts if it is there at all: a damaged copy is reported, not passed over.
    return next((place / name for place in search_path() if layout_of(place / name) is not None), None)


def _fetch(name: str, progress: Progress | None, allow_download: bool) -> Path:
    if not allow_download:
        looked = ", ".join(str(place) for place in search_path())
        raise DataUnavailableError(f"{name}: no copy in {looked}; allow the download, or set CODA_DATA")
    published = PUBLISHED[name]
    return download(
        published.url,
        cache_folder() / name,
        members=(published.layout.ratings, published.layout.movies),
        ratings_sha256=published.ratings_sha256,
        archive_md5=published.archive_md5,
        progress=progress,
    )
