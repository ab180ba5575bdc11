"""`coda flash`: from a blank card to a board that joins its fleet by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coda.flashing import Order
    from hardware.flash.disks import Disk
    from hardware.flash.prepare import Examined
    from hardware.flash.receipt import Receipt

app = typer.Typer(
    help="Write a seeded image to a card: the board joins its fleet when it boots.",
    epilog="Example:  coda flash --image raspios.img.xz --device /dev/sdb --config FLEET.toml --name pi-1",
)

_Image = Annotated[Path | None, typer.Option("--image", help="The system's image: raw, .xz, .zst or .gz.")]
_Config = Annotated[Path | None, typer.Option("--config", help="FLEET.toml: what every board of the fleet gets.")]
_Name = Annotated[str | None, typer.Option("--name", help="The board's name, in the network and in the fleet.")]
_Bundle = Annotated[Path | None, typer.Option("--bundle", help="Wheels that the board installs: a folder or a .tar.")]
_Releases = Annotated[
    Path | None, typer.Option("--releases", help="Folder of `coda release init`; releases beside FLEET.toml, if there.")
]
_Sha256 = Annotated[str | None, typer.Option("--sha256", help="Digest of the image, as downloaded or unpacked.")]
_Unchecked = Annotated[bool, typer.Option("--unchecked", help="Take an image without a digest to compare it with.")]
_ReceiptPath = Annotated[Path | None, typer.Option("--receipt", help="Where the receipt goes; NAME.TIME.receipt.json.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Root = Annotated[
    Path, typer.Option("--root", help="An emulated system, whose disks are files.", exists=True, file_okay=False)
]
_SYSTEM = Path("/")


@app.callback(invoke_without_command=True)
def flash(
    context: typer.Context,
    image: _Image = None,
    device: Annotated[Path | None, typer.Option(help="The card's disk, such as /dev/sdb.")] = None,
    config: _Config = None,
    name: _Name = None,
    bundle: _Bundle = None,
    releases: _Releases = None,
    sha256: _Sha256 = None,
    unchecked: _Unchecked = False,
    write: Annotated[bool, typer.Option("--write", help="Really write. Without it nothing is.")] = False,
    serial: Annotated[
        str | None, typer.Option(help="The disk's serial number, instead of typing it when asked.")
    ] = None,
    largest_gb: Annotated[int, typer.Option(help="Larger disks are not taken for cards.", min=1)] = 512,
    receipt: _ReceiptPath = None,
    root: _Root = _SYSTEM,
    as_json: _AsJson = False,
) -> None:
    """Check everything and say what would be written where; with --write, write it.

    The disk must be removable, unmounted and large enough, the image the one that its publisher meant, and the disk's
    serial number typed. Sector 0 is written last, after everything else was read back: a card that was interrupted
    does not boot.
    """
    if context.invoked_subcommand is not None:
        return
    from coda.flash_console import check_receipt, confirm, deliver, examining, print_plan
    from coda.flashing import chosen_sha256
    from hardware.flash.disks import inspect

    check_receipt(receipt)
    image, device = _needed("--image", image), _needed("--device", device)
    order = _order(config, name, bundle, releases)
    expected = chosen_sha256(image, sha256, unchecked)
    disk = inspect(device, root)
    disk.check(largest_gb * 10**9)
    with examining(image, expected, disk.size_bytes) as examined:
        if not write:
            print_plan(examined, order, disk, as_json)
            return
        confirm(disk, serial)
        done = _write_disk(examined, order, disk, expected is not None, root)
    deliver(done, receipt, as_json)


@app.command(
    "image", epilog="Example:  coda flash image --image os.img.xz --config FLEET.toml --name pi-1 --out pi-1.img"
)
def image_(
    out: Annotated[Path, typer.Option(help="The file to make.")],
    image: _Image = None,
    config: _Config = None,
    name: _Name = None,
    bundle: _Bundle = None,
    releases: _Releases = None,
    sha256: _Sha256 = None,
    unchecked: _Unchecked = False,
    receipt: _ReceiptPath = None,
    as_json: _AsJson = False,
) -> None:
    """Make a seeded image file, for any tool to write to one card: it holds a token that works once."""
    from coda.flash_console import check_receipt, deliver, examining, writing
    from coda.flashing import chosen_sha256, write_and_sign
    from hardware.flash.target import create_image

    check_receipt(receipt)
    image = _needed("--image", image)
    order = _order(config, name, bundle, releases)
    expected = chosen_sha256(image, sha256, unchecked)
    with examining(image, expected, None) as examined, create_image(out, examined.digest.raw_bytes) as target:
        try:
            with writing(examined) as progress:
                done = write_and_sign(
                    target, examined, order, where=str(out), checked=expected is not None, progress=progress
                )
        except BaseException:
            out.unlink(missing_ok=True)
            raise
    deliver(done, receipt, as_json)


@app.command(epilog="Example:  coda flash jetson --config FLEET.toml --name orin-1 --out orin-1")
def jetson(
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    config: _Config = None,
    name: _Name = None,
    bundle: _Bundle = None,
    releases: _Releases = None,
    as_json: _AsJson = False,
) -> None:
    """Make a folder with the seed and instructions for a Jetson, which only NVIDIA's own tools can flash."""
    from coda.output import console, print_json
    from hardware.flash.jetson import write_folder

    order = _order(config, name, bundle, releases)
    names = write_folder(out, order.seed(spend=True))
    if as_json:
        print_json({"name": order.name, "folder": str(out), "files": names})
    else:
        console.print(f"wrote {out}; go on with {out / 'INSTRUCTIONS.md'}", markup=False)


@app.command(epilog="Example:  coda flash disks --json")
def disks(root: _Root = _SYSTEM, as_json: _AsJson = False) -> None:
    """List this computer's disks, and why each may not be written to."""
    from coda.flash_console import described
    from coda.output import print_json, results
    from hardware.flash.disks import find_disks

    found = find_disks(root)
    if as_json:
        print_json([described(disk) | {"refusals": disk.refusals()} for disk in found])
        return
    for disk in found:
        verdict = "; ".join(disk.refusals()) or "may be written to"
        results.print(
            f"{disk.path}  {disk.size_bytes / 1e9:.1f} GB  {disk.model or '-'}  {disk.serial or '-'}  {verdict}",
            markup=False,
        )


def _needed(option: str, value: Path | None) -> Path:
    from coda.errors import UsageError

    if value is None:
        raise UsageError(f"{option} is needed; see `coda flash --help`")
    return value


def _order(config: Path | None, name: str | None, bundle: Path | None, releases: Path | None) -> Order:
    from coda.errors import UsageError
    from coda.flashing import Order

    if name is None:
        raise UsageError("--name is needed; see `coda flash --help`")
    return Order.load(_needed("--config", config), name, bundle, releases)


def _write_disk(examined: Examined, order: Order, disk: Disk, checked: bool, root: Path) -> Receipt:
    from coda.flash_console import refuse, writing
    from coda.flashing import write_and_sign
    from hardware.flash.disks import inspect
    from hardware.flash.target import open_device

    emulated = root != _SYSTEM
    path = root / disk.path.relative_to("/") if emulated else disk.path
    with open_device(path, emulated=emulated) as target, writing(examined) as progress:
        # From here on the kernel keeps others off the disk; what came before may have been another, or be mounted now.
        if inspect(disk.path, root) != disk:
            refuse(disk, "it is not the disk that it was a moment ago")
        return write_and_sign(
            target,
            examined,
            order,
            where=str(disk.path),
            model=disk.model,
            serial=disk.serial,
            checked=checked,
            emulated=emulated,
            progress=progress,
        )
