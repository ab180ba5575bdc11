"""The cloud's database, SQLite and PostgreSQL: whole or not at all, on disk, back after restarts, clear when away."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import bindparam, select, text, update

from cloud_broker.config import load_config
from cloud_broker.errors import CloudError, ConfigError, StorageError, UnavailableError
from cloud_broker.models.registry import Registry
from cloud_broker.storage.copying import Copied, copy_state
from cloud_broker.storage.database import SharedDatabase, keep, replace
from cloud_broker.storage.ledger import Ledger
from cloud_broker.storage.migrating import HEAD, differences, version_of
from cloud_broker.storage.place import Place, StorageOptions
from cloud_broker.storage.tables import DEVICE, METADATA, MODEL, STAGE
from protocol.messages import Report
from tests.cloud_broker.samples import SCHEMA
from tests.postgres import PostgresServer
from tests.s3 import S3Server

_SEEN = select(DEVICE.c.seen_s).where(DEVICE.c.name == bindparam("name"))


def test_a_transaction_happens_whole_or_not_at_all(place: Place) -> None:
    """What raises leaves nothing behind; what returns is there for another connection."""
    with closing(SharedDatabase(place)) as database:
        with pytest.raises(ZeroDivisionError):
            _fail_within(database)
        assert not database.rows(_SEEN, name="a")
        with database.transaction() as connection:
            assert connection.execute(keep(DEVICE), {"name": "a", "seen_s": 1.0}).rowcount == 1
            assert connection.execute(keep(DEVICE), {"name": "a", "seen_s": 2.0}).rowcount == 0
        assert database.rows(_SEEN, name="a") == [(1.0,)]
        with database.transaction() as connection:
            connection.execute(replace(DEVICE), {"name": "a", "seen_s": 3.0, "online": True, "hello": {"board": "x"}})
        assert database.rows(select(DEVICE)) == [("a", 3.0, True, {"board": "x"})]


def _fail_within(database: SharedDatabase) -> None:
    with database.transaction() as connection:
        connection.execute(keep(DEVICE), {"name": "a", "seen_s": 1.0})
        raise ZeroDivisionError


def test_a_commit_is_flushed_before_it_returns(place: Place) -> None:
    """Whatever the database's own default is."""
    with closing(SharedDatabase(place)) as database:
        if database.dialect == "sqlite":
            assert database.rows(text("PRAGMA synchronous")) == [(2,)]
            assert database.rows(text("PRAGMA journal_mode")) == [("wal",)]
        else:
            assert database.rows(text("SHOW synchronous_commit")) == [("on",)]


def test_the_steps_make_the_tables_that_are_said(place: Place) -> None:
    """A new database has every table of `tables` and nothing else, by the last step, and `HEAD` names it."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import cloud_broker.storage.migrations as steps

    with closing(SharedDatabase(place)) as database, database.transaction() as connection:
        assert differences(connection) == []
        assert version_of(connection) == HEAD
        tables = connection.dialect.get_table_names(connection)  # type: ignore[attr-defined, unused-ignore]
        assert sorted(tables) == sorted([*METADATA.tables, "alembic_version"])
    config = Config()
    config.set_main_option("script_location", str(Path(steps.__path__[0])))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_processes_that_open_at_once_upgrade_once(tmp_path: Path, postgres: PostgresServer) -> None:
    """Each finds the tables; none finds them half made."""
    code = (
        "import sys; from pathlib import Path; from cloud_broker.storage.database import SharedDatabase;"
        "from cloud_broker.storage.place import Place, StorageOptions; from cloud_broker.storage.tables import DEVICE;"
        "from sqlalchemy import select;"
        "database = SharedDatabase(Place(Path(sys.argv[1]), StorageOptions(database_url=sys.argv[2])));"
        "assert database.rows(select(DEVICE)) == []; database.close()"
    )
    for url in ("", postgres.create("at_once")):
        running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), url]) for _ in range(2)]
        assert [one.wait(60) for one in running] == [0, 0]


def test_a_database_of_a_later_version_is_left_alone(place: Place) -> None:
    """It is refused with what to do."""
    with closing(SharedDatabase(place)) as database, database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match=r"later version of this program \(9999"):
        SharedDatabase(place)


def test_what_is_away_is_told_apart_and_comes_back(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """A killed server is `UnavailableError`; restarted, the same stores go on, with all that was committed."""
    place = Place(tmp_path, StorageOptions(database_url=own_postgres.create("cloud")))
    with closing(SharedDatabase(place)) as database:
        with database.transaction() as connection:
            connection.execute(keep(DEVICE), {"name": "a", "seen_s": 1.0})
        with pytest.raises(UnavailableError, match="is away"):
            _kill_within(database, own_postgres)
        with pytest.raises(UnavailableError, match=r"postgresql://.*/cloud is away"):
            database.rows(_SEEN, name="a")
        own_postgres.start()
        assert database.rows(_SEEN, name="a") == [(1.0,)]
        with database.transaction() as connection:
            connection.execute(replace(DEVICE), {"name": "a", "seen_s": 3.0})
        assert database.rows(_SEEN, name="a") == [(3.0,)]


def _kill_within(database: SharedDatabase, server: PostgresServer) -> None:
    with database.transaction() as connection:
        connection.execute(update(DEVICE).values(seen_s=2.0))
        server.kill()


def test_a_statement_that_does_not_fit_is_an_error_without_its_values(place: Place) -> None:
    """The driver's words are told, not what was to be written."""
    with closing(SharedDatabase(place)) as database:
        with pytest.raises(StorageError) as found, database.transaction() as connection:
            connection.execute(text("INSERT INTO elsewhere VALUES (:secret)"), {"secret": "hidden-value"})
        assert "elsewhere" in str(found.value)
        assert "hidden-value" not in str(found.value)


def test_a_password_is_never_told(tmp_path: Path) -> None:
    """Neither where the server is away, nor in what options look like, nor where the URL does not fit."""
    options = StorageOptions(database_url="postgresql://coda:hunter2@127.0.0.1:1/cloud?password=hunter2")
    assert "hunter2" not in repr(options)
    with pytest.raises(UnavailableError, match=r"postgresql://127\.0\.0\.1:1/cloud is away") as away:
        SharedDatabase(Place(tmp_path, options))
    with pytest.raises(ConfigError, match="begins with 'mysql'") as refused:
        StorageOptions(database_url="mysql://coda:hunter2@host/x")
    with pytest.raises(ConfigError, match="cannot be used") as malformed:
        StorageOptions(database_url="postgresql//coda:hunter2@host:port/x")
    assert not any("hunter2" in str(error.value) for error in (away, refused, malformed))
    with pytest.raises(ConfigError, match="relative"):
        StorageOptions(database_url="sqlite:///here.sqlite")


@pytest.mark.parametrize(
    "line", ['database_url = ["postgresql://coda:hunter2@host/x"]', 'blobs_url = "s3://key:hunter2@b"']
)
def test_a_configuration_that_does_not_fit_tells_no_secret(tmp_path: Path, line: str) -> None:
    """A URL of another type, or with a key in it, is named by its field alone."""
    files = "".join(f'{name}_file = "{name}.pem"\n' for name in ("ca", "cert", "key"))
    path = tmp_path / "cloud.toml"
    path.write_text(f'fleet = "f"\nhost = "localhost"\nport = 1\nstate_dir = "s"\n{files}[storage]\n{line}\n')
    with pytest.raises(ConfigError, match=line.partition(" ")[0]) as refused:
        load_config(path)
    assert "hunter2" not in str(refused.value)


def test_blobs_alone_move_too(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both configurations name one database; again, they are there already."""
    s3.use(monkeypatch)
    source, target = Place(tmp_path), Place(tmp_path, StorageOptions(blobs_url=s3.url()))
    with closing(Registry(source)) as registry:
        ref = registry.publish(SCHEMA, b"h0", b"c0", {}).recommender
    for _ in range(2):
        assert copy_state(source, target, lambda _line: None) == Copied(0, 2)
    with closing(Registry(target)) as registry:
        assert registry.blobs.get(ref.sha256) == b"h0"


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """An unusable file is an error with its path, before anything is written over it."""
    (tmp_path / "cloud.sqlite").write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(StorageError, match=r"cloud\.sqlite: file is not a database"):
        SharedDatabase(tmp_path)
    assert (tmp_path / "cloud.sqlite").read_bytes() == b"this is not SQLite" * 100


def test_stores_of_one_process_share_connections(tmp_path: Path) -> None:
    """The last that is closed closes them."""
    first, second = SharedDatabase(tmp_path), SharedDatabase(tmp_path)
    assert first._engine is second._engine
    first.close()
    assert second.rows(text("SELECT 1")) == [(1,)]
    second.close()
    assert SharedDatabase(tmp_path)._engine is not second._engine


def _folder_of_before(folder: Path) -> None:
    """As the stores made their own files: two models, a device with a report."""
    with closing(sqlite3.connect(folder / "registry.sqlite")) as old:
        old.executescript(
            "CREATE TABLE model (version INTEGER PRIMARY KEY AUTOINCREMENT, published_s REAL NOT NULL,"
            " features TEXT NOT NULL, recommender TEXT NOT NULL, classifier TEXT NOT NULL, lineage TEXT NOT NULL,"
            " rows TEXT);"
            "INSERT INTO model VALUES (4, 10.0, '[]', 'aa', 'bb', '{\"data\": 1}', NULL), (7, 20.0, '[]', 'cc', 'bb',"
            " '{}', NULL);"
        )
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as old:
        old.executescript(
            "CREATE TABLE device (name TEXT PRIMARY KEY, seen_s REAL NOT NULL, online INTEGER, hello TEXT)"
            " WITHOUT ROWID; INSERT INTO device VALUES ('kiosk', 5.0, 1, '{\"board\": \"pi\"}'), ('till', 6.0, NULL,"
            " NULL);"
        )


def test_a_folder_of_before_is_taken_over(place: Place) -> None:
    """Its rows are in the one database; its models have been live one after the other; its files are set aside."""
    _folder_of_before(place.state_dir)
    for _ in range(2):
        with closing(SharedDatabase(place)) as database:
            assert database.rows(select(MODEL.c.version, MODEL.c.lineage).order_by(MODEL.c.version)) == [
                (4, {"data": 1}),
                (7, {}),
            ]
            assert database.rows(select(DEVICE).order_by(DEVICE.c.name)) == [
                ("kiosk", 5.0, True, {"board": "pi"}),
                ("till", 6.0, None, None),
            ]
            columns = (STAGE.c.version, STAGE.c.stage, STAGE.c.since_s, STAGE.c.live_before)
            assert database.rows(select(*columns).order_by(STAGE.c.number)) == [
                (4, "live", 10.0, None),
                (4, "retired", 20.0, None),
                (7, "live", 20.0, 4),
            ]
    assert (place.state_dir / "registry.sqlite.taken-over").exists()
    assert not (place.state_dir / "ledger.sqlite").exists()
    with closing(SharedDatabase(place)) as database, database.transaction() as connection:
        new = {"published_s": 30.0, "features": [], "recommender": "dd", "classifier": "bb", "lineage": {}}
        connection.execute(MODEL.insert(), new)
        assert connection.scalars(select(MODEL.c.version).order_by(MODEL.c.version.desc())).first() == 8


def test_two_clouds_are_not_mixed(place: Place) -> None:
    """A folder of before and a database that is in use: nothing is changed, and the error says which and what to do."""
    with closing(SharedDatabase(place)) as database, database.transaction() as connection:
        connection.execute(keep(DEVICE), {"name": "other", "seen_s": 1.0})
    _folder_of_before(place.state_dir)
    with pytest.raises(CloudError, match=r"registry\.sqlite.*device is not empty.*name an empty database"):
        SharedDatabase(place)
    assert (place.state_dir / "registry.sqlite").exists()


def test_a_cloud_that_has_grown_moves(
    tmp_path: Path, postgres: PostgresServer, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From SQLite and disk to PostgreSQL and S3, and back to another folder: every row, every blob; numbers go on."""
    s3.use(monkeypatch)
    away = StorageOptions(database_url=postgres.create("moved", "upgraded"), blobs_url=s3.url())
    places = [Place(tmp_path / "laptop"), Place(tmp_path / "server", away), Place(tmp_path / "back")]
    with closing(Registry(places[0])) as registry, closing(Ledger(places[0])) as ledger:
        registry.publish(SCHEMA, b"h0", b"c0", {"data": 1})
        first = registry.publish(SCHEMA, b"h1", b"c1", {})
        ledger.add_report("dev", Report("r", 1, {"gate": "kept", "x": [1.5, None]}), "m")
    for source, target in itertools.pairwise(places):
        copied = copy_state(source, target, lambda _line: None)
        assert (copied.blobs, copied.rows) == (4, 4 + 2 + 3 + 1)
        with pytest.raises(StorageError, match="name an empty database"):
            copy_state(source, target, lambda _line: None)
        with pytest.raises(StorageError, match="the same database"):
            copy_state(target, target, lambda _line: None)
        with closing(Registry(target)) as registry, closing(Ledger(target)) as ledger:
            assert registry.latest() == first
            assert registry.blobs.get(first.recommender.sha256) == b"h1"
            assert ledger.reports() == [("dev", {"gate": "kept", "x": [1.5, None]})]
    with closing(Registry(places[1])) as registry:
        assert registry.publish(SCHEMA, b"h2", b"c2", {}).version == 3
