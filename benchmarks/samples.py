"""What a batch of matched samples weighs and takes to read: python -m benchmarks.samples.

Four ways to send the same samples: the compact layout, the plain one (shuffled columns), msgpack of rows, and the
columns as they are; compressed with zstd or zlib. The samples come from 20 contributors, as a matcher that prefers
shared histories finds them, or from all users alike, which is the worst that can be. Ratios are to the plain layout.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import msgpack
import numpy as np
import zstandard
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from evaluation.datasets import load_dataset
from evaluation.errors import DataUnavailableError
from evaluation.samples import Labels, UserSamples, build_samples
from protocol.batch_codec import decode_batch, encode_batch, encode_plain
from protocol.samples import SampleBatch
from protocol.schema import FeatureKind, FeatureSchema

CONTRIBUTORS = 20
GOAL_BYTES = {"20 contributors": 10_000, "all users": 45_000}
GOAL_DECODE_S = 0.005
_ZSTD_LEVEL = 9  # that of `protocol.columns`

Encode = Callable[[SampleBatch], bytes]
Decode = Callable[[bytes, FeatureSchema], object]


@dataclass(frozen=True)
class Weight:
    """What one way of sending one kind of batch costs: medians over seeds.

    Attributes:
        labels: What the labels mean, which decides what the samples are.
        chosen: Whose samples.
        content: Which columns.
        way: How they are sent.
        size_bytes: Encoded.
        encode_s: Seconds to encode.
        decode_s: Seconds to decode.
    """

    labels: str
    chosen: str
    content: str
    way: str
    size_bytes: float
    encode_s: float
    decode_s: float


def main() -> None:
    """Weigh and print."""
    asked = _arguments()
    try:
        data = load_dataset(asked.data, allow_download=False)
    except DataUnavailableError:
        print(f"{asked.data} is not on this machine: synthetic data instead")
        data = load_dataset("synthetic")
    weights = []
    for labels in Labels:
        found = build_samples(data, labels)
        for chosen, choose in (("20 contributors", _of_few), ("all users", _of_all)):
            rows = [choose(found, asked.samples, seed) for seed in range(asked.seeds)]
            batches = [found.batch.take(each) for each in rows]
            weights += _weigh(labels.value, chosen, "ids", [_ids_only(batch) for batch in batches])
            weights += _weigh(labels.value, chosen, "all", batches)
    Console(width=120).print(_table(weights))
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(weight) for weight in weights], indent=2) + "\n")


def _of_few(found: UserSamples, samples: int, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    each = samples // CONTRIBUTORS
    users = np.sort(rng.choice(np.flatnonzero(np.diff(found.starts) >= each), CONTRIBUTORS, replace=False))
    spans = [np.arange(found.starts[user], found.starts[user + 1]) for user in users]
    return np.concatenate([np.sort(rng.choice(span, each, replace=False)) for span in spans])


def _of_all(found: UserSamples, samples: int, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(len(found.batch), samples, replace=False)).astype(np.int64)


def _ids_only(batch: SampleBatch) -> SampleBatch:
    """The candidates and the histories alone, with one label and one time."""
    kinds = (FeatureKind.CATEGORICAL, FeatureKind.SEQUENCE)
    schema = FeatureSchema(tuple(f for f in batch.schema.features if f.kind in kinds))
    features = {f.name: batch.features[f.name] for f in schema.features}
    return SampleBatch(schema, features, np.ones_like(batch.label), np.ones_like(batch.time_s))


def _weigh(labels: str, chosen: str, content: str, batches: list[SampleBatch]) -> list[Weight]:
    weights = []
    for way, (encode, decode) in WAYS.items():
        taken = [_timed(batch, encode, decode) for batch in batches]
        weights.append(Weight(labels, chosen, content, way, *(median(values) for values in zip(*taken, strict=True))))
    return weights


def _timed(batch: SampleBatch, encode: Encode, decode: Decode, turns: int = 5) -> tuple[float, float, float]:
    payload = encode(batch)
    return len(payload), _fastest(lambda: encode(batch), turns), _fastest(lambda: decode(payload, batch.schema), turns)


def _fastest(work: Callable[[], object], turns: int) -> float:
    taken = []
    for _ in range(turns):
        begin_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin_s)
    return min(taken)


def _encode_compact(batch: SampleBatch, *, zstd: bool = True) -> bytes:
    return encode_batch(batch, zstd=zstd, keep_order=False)


def _encode_rows(batch: SampleBatch) -> bytes:
    names, columns = zip(*batch.columns(), strict=True)
    rows = [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(msgpack.packb({"names": names, "rows": rows}))


def _decode_rows(payload: bytes, schema: FeatureSchema) -> SampleBatch:
    rows = msgpack.unpackb(zstandard.ZstdDecompressor().decompress(payload))["rows"]
    columns = dict(zip([*(f.name for f in schema.features), "label", "time_s"], zip(*rows, strict=True), strict=True))
    label, time_s = np.array(columns.pop("label"), np.float32), np.array(columns.pop("time_s"), np.int64)
    return SampleBatch(schema, {f.name: np.array(columns[f.name], f.dtype) for f in schema.features}, label, time_s)


def _encode_raw(batch: SampleBatch) -> bytes:
    """The features alone, nothing compressed; 16 bits an id hold this catalogue."""
    features = batch.features.values()
    return b"".join((array.astype(np.uint16) if array.dtype == np.int32 else array).tobytes() for array in features)


def _decode_raw(payload: bytes, schema: FeatureSchema) -> object:
    return np.frombuffer(payload, np.uint8).copy()


WAYS: dict[str, tuple[Encode, Decode]] = {
    "compact, zstd": (_encode_compact, decode_batch),
    "compact, zlib": (lambda batch: _encode_compact(batch, zstd=False), decode_batch),
    "plain columns, zstd": (encode_plain, decode_batch),
    "msgpack rows, zstd": (_encode_rows, _decode_rows),
    "raw features, 16 bits": (_encode_raw, _decode_raw),
}


def _table(weights: list[Weight]) -> Table:
    table = Table(box=box.MARKDOWN)
    for name in ("labels", "samples of", "columns", "sent as", "bytes", "ratio", "decode ms", "ratio"):
        table.add_column(name, justify="left" if len(table.columns) < 4 else "right")
    plain = {(w.labels, w.chosen, w.content): w for w in weights if w.way == "plain columns, zstd"}
    for w in weights:
        base = plain[w.labels, w.chosen, w.content]
        small, fast = w.size_bytes <= GOAL_BYTES[w.chosen], w.decode_s <= GOAL_DECODE_S
        ours = w.way.startswith("compact")
        table.add_row(
            w.labels, w.chosen, w.content, w.way,
            f"{w.size_bytes:,.0f}{_mark(small) if ours else ''}", f"{w.size_bytes / base.size_bytes:.2f}",
            f"{w.decode_s * 1e3:.2f}{_mark(fast) if ours else ''}", f"{w.decode_s / base.decode_s:.1f}",
        )  # fmt: skip
    return table


def _mark(reached: bool) -> str:
    return " [green]✓[/green]" if reached else " [red]✗[/red]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.samples", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="ml-latest-small", help="a dataset's name or folder (%(default)s)")
    parser.add_argument("--samples", type=int, default=1000, help="samples of a batch (%(default)s)")
    parser.add_argument("--seeds", type=int, default=10, help="batches of each kind (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
