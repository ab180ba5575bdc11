"""`coda inspect`: what a converted file holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from converters.inspect import FileInfo, TensorInfo

EPILOG = "Example:  coda inspect model.tflite --json"


def inspect(
    file: Annotated[Path, typer.Argument(help="A .tflite file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a TFLite file's signatures, shapes, operations, sizes and hash, without running it."""
    from coda.output import print_json, results
    from converters.inspect import inspect_file

    info = inspect_file(file)
    if as_json:
        print_json(info.to_dict())
    else:
        results.print("\n".join(_lines(info)), markup=False)


def _lines(info: FileInfo) -> list[str]:
    lines = [
        f"{info.path}: {info.size_bytes} bytes, {info.constant_bytes} of them constants",
        f"SHA-256 {info.sha256}",
        f"operations that are not builtin: {', '.join(info.foreign_ops) or 'none'}",
    ]
    for signature in info.signatures:
        lines.append(f"{signature.name}")
        lines += [f"  takes {_tensor(tensor)}" for tensor in signature.inputs]
        lines += [f"  gives {_tensor(tensor)}" for tensor in signature.outputs]
        lines.append("  ops   " + ", ".join(f"{name} x{count}" for name, count in sorted(signature.ops.items())))
    return lines


def _tensor(tensor: TensorInfo) -> str:
    shape = ", ".join("n" if size is None else str(size) for size in tensor.shape)
    return f"{tensor.name} {tensor.dtype} [{shape}]"
