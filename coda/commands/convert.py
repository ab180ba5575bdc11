"""`coda convert`: a Keras model becomes a file that trains on a board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from coda.errors import UsageError

EPILOG = "Example:  coda convert model.keras --out model.tflite --report parity.json"


def convert(
    model: Annotated[str, typer.Argument(help="A .keras file, a SavedModel folder, or package.module:object.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    batch_size: Annotated[int, typer.Option(help="Samples in one training step.")] = 64,
    optimizer: Annotated[str, typer.Option(help="sgd, momentum, adagrad or adam.")] = "sgd",
    trainable: Annotated[str, typer.Option(help="all, head, embeddings, or a pattern of weight paths.")] = "all",
    report: Annotated[Path | None, typer.Option(help="Write the comparison with TensorFlow here, as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Convert a Keras model to TFLite with training signatures, proven equal to TensorFlow before it is written."""
    from coda.output import console, print_json, results
    from converters.convert import ConvertOptions
    from converters.convert import convert as convert_model
    from converters.errors import ParityError
    from converters.load import load_model

    _require_writable(out, model)
    options = ConvertOptions(batch_size=batch_size, optimizer=optimizer, trainable=trainable)
    with console.status(f"converting {model}"):
        try:
            conversion = convert_model(load_model(model), out, options)
        except ParityError as error:
            _write_report(report, error.report.to_dict())
            raise
    parity = conversion.parity.to_dict()
    _write_report(report, parity)
    if as_json:
        found = {"path": str(out), "sha256": conversion.sha256, "size_bytes": conversion.size_bytes, "parity": parity}
        print_json(found)
        return
    runtimes = ", ".join(f"{one['runtime']} {one['version']}" for one in parity["runtimes"])
    results.print(f"{out}: {conversion.size_bytes} bytes, SHA-256 {conversion.sha256}")
    results.print(f"equal to TensorFlow over {parity['steps']} training steps in {runtimes}")


def _require_writable(out: Path, model: str) -> None:
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name the file to write")
    if out.resolve() == Path(model).resolve():
        raise UsageError(f"--out {out}: is the model itself; name another file")


def _write_report(path: Path | None, parity: dict[str, object]) -> None:
    if path is not None:
        path.write_text(json.dumps(parity, indent=2, sort_keys=True) + "\n")
