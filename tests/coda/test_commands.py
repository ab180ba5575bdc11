"""Every command: its help, its exit codes, its one-line errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import typer
import typer.main

from coda.cli import app
from tests.coda.running import coda, coda_here


def _commands(
    group: typer.Typer, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str | None, str | None]]:
    default = getattr(group.info.cls, "DEFAULT", None)  # needs no name on the command line
    for command in group.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        words = path if name == default else (*path, name)
        yield words, command.epilog, command.callback.__doc__ if command.callback else None
    for sub in group.registered_groups:
        if sub.typer_instance is not None:
            yield from _commands(sub.typer_instance, (*path, sub.name or ""))


COMMANDS = list(_commands(app))


@pytest.mark.parametrize(("path", "epilog", "text"), COMMANDS, ids=[" ".join(path) for path, _, _ in COMMANDS])
def test_every_command_has_help_with_an_example(path: tuple[str, ...], epilog: str | None, text: str | None) -> None:
    """A command says what it does, and shows one call of itself."""
    assert text
    assert epilog is not None
    assert epilog.startswith("Example:  coda " + " ".join(path))


def test_help_exits_zero_and_names_the_first_command() -> None:
    """Whoever types `coda --help` is told where to begin."""
    done = coda("--help")
    assert done.returncode == 0
    assert "coda demo" in done.stdout


def test_version_prints_json() -> None:
    """`--json` gives one document, with None for what is not installed."""
    done = coda("version", "--json")
    assert done.returncode == 0
    versions = json.loads(done.stdout)
    assert versions["mosquitto"]
    assert versions["coda-edge"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("demo", "--devices", "0"),
        ("demo", "--labels", "loud"),
        ("edge", "run"),
        ("convert",),
        ("broker", "up", "--dir", "x", "--port", "70000"),
        ("cloud", "serve", "--config", "x", "--log-format", "loud"),
        ("cloud", "serve", "--config", "x", "--workers", "0"),
        ("simulate", "--config", "x", "--fleet-dir", "x", "--rate", "0"),
    ],
)
def test_wrong_use_exits_two(arguments: tuple[str, ...]) -> None:
    """A wrong command line is told apart from a failure."""
    assert coda_here(*arguments).returncode == 2


def _truncated(folder: Path) -> None:
    (folder / "ml-100k").mkdir()
    (folder / "ml-100k" / "u.data").write_text("196\t242\t3\t881250949\n")
    (folder / "ml-100k" / "u.item").write_text("")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("edge", "run", "--config", "{tmp}/absent.toml"), "No such file"),
        (("cloud", "serve", "--config", "{tmp}/absent.toml"), "No such file"),
        (("report", "{tmp}/absent"), "no such run directory"),
        (("convert", "{tmp}/absent.keras", "--out", "{tmp}/m.tflite"), "absent.keras"),
        (("demo", "--data", "{tmp}/absent", "--out", "{tmp}/run"), "neither a dataset"),
    ],
)
def test_a_failure_is_one_line_and_exits_one(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """An error names what is wrong in one line, without a traceback."""
    run = coda if arguments[0] == "edge" else coda_here  # the first becomes another process
    done = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("coda:")]) == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """`--debug` is for whoever has to find out where an error comes from."""
    done = coda("--debug", "report", str(tmp_path / "absent"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_damaged_dataset_is_refused_not_replaced(tmp_path: Path) -> None:
    """A truncated copy is an error that names the file; synthetic data never takes its place silently."""
    _truncated(tmp_path)
    done = coda("demo", "--data", "ml-100k", "--out", str(tmp_path / "run"), CODA_DATA=str(tmp_path))
    assert done.returncode == 1
    assert "u.data" in done.stderr


def test_a_folder_in_use_is_not_overwritten(tmp_path: Path) -> None:
    """A run never writes over another's files."""
    (tmp_path / "precious").write_text("kept")
    done = coda("demo", "--data", "synthetic", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert (tmp_path / "precious").read_text() == "kept"


def test_no_mosquitto_says_how_to_install_it(tmp_path: Path) -> None:
    """Without a broker the demo stops before it trains anything, and names the command that mends it."""
    program = "import cloud_broker.mosquitto.broker as b; b._SYSTEM_FOLDERS = (); import coda.cli; coda.cli.main()"
    import subprocess
    import sys

    from tests.coda.running import ENVIRONMENT, ROOT

    arguments = ["demo", "--data", "synthetic", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "apt-get install mosquitto" in done.stderr


def test_the_record_schema_is_valid() -> None:
    """The documented schema of a RoundRecord is itself a JSON Schema."""
    from tests.coda.running import ROOT

    schema = json.loads((ROOT / "profiling" / "round_record.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
