"""`coda release`: signing releases of the software, and rolling them out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Releases of the software: sign them, roll them out, halt them.", no_args_is_help=True)

Directory = Annotated[Path, typer.Option("--dir", help="Folder of the releases.")]
Keys = Annotated[Path, typer.Option("--keys", help="Folder of the keys that sign.")]
CloudConfigOption = Annotated[Path, typer.Option("--config", help="The cloud's configuration, TOML.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_HERE, _KEYS = Path("releases"), Path("release-keys")


@app.command(epilog="Example:  coda release init --root-keys 3 --threshold 2")
def init(
    directory: Directory = _HERE,
    keys: Keys = _KEYS,
    root_keys: Annotated[int, typer.Option(help="Keys of the root.", min=1)] = 3,
    threshold: Annotated[int, typer.Option(help="How many of them must sign a new root.", min=1)] = 2,
) -> None:
    """Make the keys, and the root of trust that every device is given."""
    from cloud_broker.releases.repository import ReleaseRepository
    from coda.output import console

    made = ReleaseRepository.create(directory, keys, root_keys=root_keys, threshold=threshold)
    console.print(f"the root of trust is {made.root_path}; name it in a device's configuration: \\[updates] root")
    console.print(f"move {keys}/root-*.key offline, apart from each other: {threshold} of them can replace any key")


@app.command(epilog="Example:  coda release add coda-pi5.tar --version 0.2.0")
def add(
    bundle: Annotated[Path, typer.Argument(help="What `coda bundle` built for a board.")],
    version: Annotated[str, typer.Option(help="The release's version, for people.")],
    name: Annotated[str | None, typer.Option(help="What to call it; by default the file's name.")] = None,
    ranking_changes: Annotated[
        bool, typer.Option("--ranking-changes", help="It is meant to rank otherwise than the release before.")
    ] = False,
    directory: Directory = _HERE,
    keys: Keys = _KEYS,
) -> None:
    """Sign a bundle as a release, with the targets key, and publish it; it is offered to nobody yet."""
    from cloud_broker.releases.repository import ReleaseRepository
    from coda.output import console

    repository = ReleaseRepository(directory, keys)
    found = repository.add(bundle, version=version, name=name, ranking_changes=ranking_changes)
    repository.publish()
    console.print(f"signed: {found}, release {repository.releases()[found]['number']}", markup=False)


@app.command(epilog="Example:  coda release publish")
def publish(directory: Directory = _HERE, keys: Keys = _KEYS) -> None:
    """Sign what is newest again, so that devices may believe it for longer; every month or so."""
    from cloud_broker.releases.repository import ReleaseRepository
    from coda.output import console

    repository = ReleaseRepository(directory, keys)
    repository.publish()
    for role, expires in sorted(repository.expiries().items()):
        console.print(f"{role:10} until {expires:%Y-%m-%d}")


@app.command(epilog="Example:  coda release root --replace targets")
def root(
    replace: Annotated[str | None, typer.Option(help="A key to replace: root-1, targets, snapshot, timestamp.")] = None,
    directory: Directory = _HERE,
    keys: Keys = _KEYS,
) -> None:
    """Begin a new root, with one key replaced or only prolonged; `coda release sign` completes it."""
    from cloud_broker.releases.repository import ReleaseRepository
    from coda.output import console

    staged = ReleaseRepository(directory, keys).stage_root(replace)
    console.print(f"{staged} waits for the signatures of root keys: coda release sign --key root-1.key", markup=False)


@app.command(epilog="Example:  coda release sign --key /media/stick/root-1.key")
def sign(
    key: Annotated[Path, typer.Option("--key", help="A root key.")],
    directory: Directory = _HERE,
) -> None:
    """Sign the root that was begun; with enough signatures it counts. `coda release publish` then signs the rest."""
    from cloud_broker.releases.repository import ReleaseRepository
    from coda.output import console

    repository = ReleaseRepository(directory, key.parent)
    signatures, enough = repository.sign_root(key)
    said = f"root {repository.root_version} counts from now on; run: coda release publish" if enough else "more needed"
    console.print(f"{signatures} signatures: {said}")


@app.command("list", epilog="Example:  coda release list --json")
def list_(directory: Directory = _HERE, keys: Keys = _KEYS, as_json: AsJson = False) -> None:
    """List the signed releases, and until when that may be believed."""
    from cloud_broker.releases.repository import ReleaseRepository
    from coda.output import print_json, results

    repository = ReleaseRepository(directory, keys)
    releases = repository.releases()
    expiries = {role: f"{expires:%Y-%m-%d}" for role, expires in repository.expiries().items()}
    if as_json:
        print_json({"releases": releases, "expires": expiries})
        return
    for name, one in sorted(releases.items(), key=lambda item: int(item[1]["number"])):
        line = f"{one['number']:>4}  {one['version']:12}  {one['size_bytes']:>10} bytes  {one['sha256'][:12]}  {name}"
        results.print(line, markup=False)
    results.print("until " + ", ".join(f"{role} {day}" for role, day in sorted(expiries.items())), markup=False)


@app.command(
    epilog="Example:  coda release offer coda-pi5.tar --config cloud.toml --percent 10 --board 'Raspberry Pi 5*'"
)
def offer(
    name: Annotated[str, typer.Argument(help="A signed release.")],
    config: CloudConfigOption,
    percent: Annotated[float, typer.Option(help="Of the devices; always the same ones for a bundle.")] = 100.0,
    device: Annotated[list[str] | None, typer.Option(help="Only this device; may be said again.")] = None,
    board: Annotated[str, typer.Option(help="Only boards whose name matches this pattern.")] = "*",
    tag: Annotated[list[str] | None, typer.Option(help="Only devices with this tag; may be said again.")] = None,
    most_failures: Annotated[int, typer.Option(help="With more failures the rollout halts.", min=0)] = 0,
    directory: Directory = _HERE,
) -> None:
    """Have the cloud offer a release to devices from now on, in place of what it offered before."""
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.releases.repository import ReleaseRepository
    from cloud_broker.releases.rollouts import Rollouts
    from cloud_broker.storage.blobs import BlobStore
    from coda.cloud_orders import cohort_of
    from coda.output import console

    cohort = cohort_of(percent, device, board, tag)
    repository, place = ReleaseRepository(directory, directory), load_config(config).place
    with closing(BlobStore(place)) as blobs, closing(Rollouts(place)) as rollouts:
        bundle = blobs.put(repository.bundle(name))
        made = rollouts.begin(
            name, blobs.put(repository.metadata()), bundle.sha256, cohort, most_failures=most_failures
        )
    console.print(f"rollout {made.number}: {name}; see coda release status --config {config}", markup=False)


@app.command(epilog="Example:  coda release halt --config cloud.toml")
def halt(config: CloudConfigOption) -> None:
    """Offer the newest release to nobody any more; devices that run it go on running it."""
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.releases.rollouts import Rollouts
    from coda.output import console

    with closing(Rollouts(load_config(config).place)) as rollouts:
        halted = rollouts.halt("halted by hand")
    console.print(f"rollout {halted.number} of {halted.target} is halted", markup=False)


@app.command(epilog="Example:  coda release status --config cloud.toml")
def status(config: CloudConfigOption, as_json: AsJson = False) -> None:
    """Tell what is offered to whom, and what came of it on each device."""
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.releases.rollouts import Rollouts
    from coda.output import print_json, results

    with closing(Rollouts(load_config(config).place)) as rollouts:
        newest = rollouts.newest()
        outcomes = rollouts.outcomes(newest.number) if newest else {}
        waiting = rollouts.waiting(newest.number) if newest else []
    found: dict[str, Any] = {"rollout": None if newest is None else newest.number, "devices": outcomes}
    if newest is not None:
        found |= {"target": newest.target, "state": newest.state, "reason": newest.reason, "waiting": waiting}
    if as_json:
        print_json(found)
        return
    if newest is None:
        results.print("nothing was offered yet", markup=False)
        return
    why = f": {newest.reason}" if newest.reason else ""
    results.print(f"rollout {newest.number}: {newest.target} is {newest.state}{why}", markup=False)
    for name, said in outcomes.items():
        results.print(f"{name:24} {said['outcome']:12} runs {said['running']:10} {said['reason']}", markup=False)
    for name in waiting:
        results.print(f"{name:24} waiting", markup=False)
