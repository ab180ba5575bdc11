"""`coda convert`: a Keras model becomes a file that trains on a board, or one that infers only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coda.errors import UsageError

if TYPE_CHECKING:
    from converters.convert import Conversion, ConvertOptions
    from protocol.rows import RowTable

EPILOG = "Example:  coda convert model.keras --out model.tflite --report parity.json"


class Weights(str, Enum):
    """How a file that only infers stores its weights."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


def convert(
    model: Annotated[str, typer.Argument(help="A .keras file, a SavedModel folder, or package.module:object.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    batch_size: Annotated[int, typer.Option(help="Samples in one training step.")] = 64,
    optimizer: Annotated[str, typer.Option(help="sgd, momentum, adagrad or adam.")] = "sgd",
    trainable: Annotated[str, typer.Option(help="all, head, embeddings, or a pattern of weight paths.")] = "all",
    slots: Annotated[
        int | None, typer.Option(help="Rows to hold of the largest table; its rows go beside the file, to .rows.npz.")
    ] = None,
    infer_only: Annotated[Weights | None, typer.Option(help="Leave training out; store weights as this.")] = None,
    samples: Annotated[
        Path | None, typer.Option(help="With --infer-only: .npz of inputs by name, and label to measure AUC.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the comparison with TensorFlow here, as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Convert a Keras model to TFLite with training signatures, proven equal to TensorFlow before it is written."""
    from coda.native_log import without_news
    from coda.output import console, print_json, results

    _require_writable(out, model)
    if infer_only is None and samples is not None:
        raise UsageError("--samples: only --infer-only has a use for them")
    if infer_only is not None and slots is not None:
        raise UsageError("--slots: a file that only infers cannot have its rows set; leave out one of the two")
    with console.status(f"converting {model}"), without_news():
        if infer_only is not None:
            found = _export(model, out, infer_only.value, samples)
            _write_report(report, found)
            lines = _export_lines(found)
        else:
            found, lines = _convert(model, out, (batch_size, optimizer, trainable), slots, report)
    if as_json:
        print_json(found)
    else:
        results.print("\n".join(lines), markup=False)


def _convert(
    model: str, out: Path, choices: tuple[int, str, str], slots: int | None, report: Path | None
) -> tuple[dict[str, Any], list[str]]:
    from converters.convert import ConvertOptions
    from converters.convert import convert as convert_model
    from converters.errors import ParityError
    from converters.load import load_model

    batch_size, optimizer, trainable = choices
    options = ConvertOptions(batch_size=batch_size, optimizer=optimizer, trainable=trainable)
    keras_model = load_model(model)
    try:
        conversion = convert_model(
            keras_model, out, options if slots is None else _slotted(options, keras_model, slots)
        )
    except ParityError as error:
        _write_report(report, error.report.to_dict())
        raise
    parity = conversion.parity.to_dict()
    _write_report(report, parity)
    found = {"path": str(out), "sha256": conversion.sha256, "size_bytes": conversion.size_bytes, "parity": parity}
    if conversion.rows:
        found["rows"] = {"path": str(_write_rows(out, conversion.rows)), **_described(conversion.rows)}
    return found, _conversion_lines(conversion, found)


def _slotted(options: ConvertOptions, model: Any, slots: int) -> ConvertOptions:
    from dataclasses import replace

    from converters.derive import largest_table, schema_of

    schema = schema_of(model)
    return replace(options, schema=schema, slots={largest_table(schema): slots})


def _described(rows: Mapping[str, RowTable]) -> dict[str, Any]:
    (table,) = rows.values()
    return table.description.to_dict()


def _write_rows(out: Path, rows: Mapping[str, RowTable]) -> Path:
    """The catalogue's rows by weight, [vocabulary, width] each, beside the file."""
    import numpy as np

    path = out.with_suffix(".rows.npz")
    (table,) = rows.values()
    columns, parts, first = table.description.columns, {}, 0
    for column in columns:
        parts[column.weight] = table.values[:, first : first + column.width]
        first += column.width
    np.savez(path, **parts)
    return path


def _conversion_lines(conversion: Conversion, found: Mapping[str, Any]) -> list[str]:
    parity = found["parity"]
    runtimes = ", ".join(f"{one['runtime']} {one['version']}" for one in parity["runtimes"])
    lines = [
        f"{conversion.path}: {conversion.size_bytes} bytes, SHA-256 {conversion.sha256}",
        f"equal to TensorFlow over {parity['steps']} training steps in {runtimes}",
    ]
    if "rows" in found:
        rows = found["rows"]
        lines.append(
            f"{rows['path']}: {rows['vocabulary']} rows of table {rows['table']}, for {rows['slots']} slots; "
            f"version {rows['version'][:12]}"
        )
    return lines


def _export(model: str, out: Path, weights: str, samples: Path | None) -> dict[str, Any]:
    from converters.inference import export_for_inference
    from converters.load import load_model

    columns = None if samples is None else _columns(samples)
    labels = None if columns is None else columns.pop("label", None)
    return export_for_inference(load_model(model), out, weights, samples=columns, labels=labels).to_dict()


def _columns(path: Path) -> dict[str, Any]:
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(f"--samples {path}: is no .npz file of arrays: {error}") from error


def _export_lines(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{found['path']}: {found['size_bytes']} bytes, infers only, {found['weights']}; SHA-256 {found['sha256']}"
    ]
    for runtime, error in found["errors"].items():
        lines.append(f"{runtime}: outputs differ from the model's by {error:.1g} of the largest")
        if found["auc_loss"] is not None:
            lines[-1] += f"; AUC {found['auc']:.4f}, of which the file loses {found['auc_loss'][runtime]:+.4f}"
    if found["auc_loss"] is None:
        lines.append("loss in AUC: not measured; give --samples with their label")
    return lines


def _require_writable(out: Path, model: str) -> None:
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name the file to write")
    if out.resolve() == Path(model).resolve():
        raise UsageError(f"--out {out}: is the model itself; name another file")


def _write_report(path: Path | None, values: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
