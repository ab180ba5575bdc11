"""systemd units for a fleet's broker and its enrolment service, confined to what each needs."""

from __future__ import annotations

from pathlib import Path

from cloud_broker.mosquitto.configuration import CERTIFICATES, MAX_CONNECTIONS

_SPARE_FILES = 1_024
_FIRST_FREE_PORT = 1024

# What neither service needs, it cannot do, whatever a peer makes of it.
_CONFINED = """\
Restart=on-failure
RestartSec=2
UMask=0077
NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=true
PrivateDevices=true
ProtectClock=true
ProtectHostname=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
SystemCallArchitectures=native
"""


def broker_unit(directory: Path, fleet: str, port: int, executable: Path, user: str) -> str:
    """The broker's unit. It cannot read the authority's key, nor tokens, nor workers' keys, though they are its user's.

    Args:
        directory: The fleet's.
        fleet: The fleet's name.
        port: What it listens on.
        executable: Mosquitto.
        user: Whose the directory is.
    """
    # Folders, where files may be replaced: hiding hides the file that is there, not its successor.
    private = ("ca.key", "enrolment", "cloud")
    hidden = " ".join([*(str(directory / CERTIFICATES / name) for name in private), str(directory / "tokens")])
    return f"""\
[Unit]
Description=MQTT broker of the CoDA fleet {fleet}
After=network-online.target
Wants=network-online.target

[Service]
User={user}
ExecStart={executable} -c {directory}/mosquitto.conf
ExecReload=/bin/kill -HUP $MAINPID
LimitNOFILE={MAX_CONNECTIONS + _SPARE_FILES}
MemoryMax=75%
ReadWritePaths={directory}
InaccessiblePaths={hidden}
MemoryDenyWriteExecute=true
{_capabilities(port)}{_CONFINED}
[Install]
WantedBy=multi-user.target
"""


def enrolment_unit(directory: Path, fleet: str, port: int, program: Path, user: str) -> str:
    """The enrolment service's unit.

    Args:
        directory: The fleet's.
        fleet: The fleet's name.
        port: What it listens on.
        program: The `coda` command.
        user: Whose the directory is.
    """
    return f"""\
[Unit]
Description=Enrolment of devices in the CoDA fleet {fleet}
After=network-online.target
Wants=network-online.target

[Service]
User={user}
ExecStart={program} fleet serve --dir {directory}
MemoryMax=512M
ReadWritePaths={directory}
{_capabilities(port)}{_CONFINED}
[Install]
WantedBy=multi-user.target
"""


def _capabilities(port: int) -> str:
    if port >= _FIRST_FREE_PORT:
        return "CapabilityBoundingSet=\n"
    return "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"
