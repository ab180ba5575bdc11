"""Files for cloud-init: Ubuntu, and Raspberry Pi OS from late 2025 (Trixie) on.

They are YAML, written as JSON, which is YAML as well and has no quoting to get wrong. Keys:
https://docs.cloud-init.io/en/latest/reference/modules.html, `NoCloud` for meta-data, netplan for network-config.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hardware.errors import ImageError
from hardware.flash import firstboot
from hardware.flash.settings import Wifi

MOST_CMDLINE_BYTES = 4096
_GROUPS = ["adm", "dialout", "i2c", "netdev", "sudo", "video"]


def user_data(hostname: str, user: str, ssh_keys: Sequence[str]) -> bytes:
    """Host name, who may log in, and the unit that sets the board up. It holds no secret: cloud-init keeps a copy."""
    login = {
        "name": user,
        "shell": "/bin/bash",
        "groups": _GROUPS,
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": True,
    }
    values: dict[str, Any] = {
        "hostname": hostname,
        "manage_etc_hosts": True,
        "ssh_pwauth": False,
        "users": [login | ({"ssh_authorized_keys": list(ssh_keys)} if ssh_keys else {})],
        "write_files": [
            {
                "path": f"/etc/systemd/system/{firstboot.SETUP_UNIT_NAME}",
                "permissions": "0644",
                "content": firstboot.SETUP_UNIT,
            }
        ],
        "runcmd": [
            # `enable_ssh` is no key of cloud-init's.
            *([["systemctl", "enable", "--now", "ssh"]] if ssh_keys else []),
            ["systemctl", "daemon-reload"],
            ["systemctl", "enable", "--now", "--no-block", firstboot.SETUP_UNIT_NAME],
        ],
    }
    return b"#cloud-config\n" + _yaml(values)


def meta_data(instance_id: str) -> bytes:
    """The instance's id; cloud-init sets up again when it changes."""
    return _yaml({"instance-id": instance_id, "dsmode": "local"})


def network_config(wifi: Wifi | None) -> bytes:
    """A cable by DHCP, and the Wi-Fi."""
    network: dict[str, Any] = {
        "version": 2,
        "ethernets": {"eth0": {"dhcp4": True, "dhcp6": True, "optional": True}},
    }
    if wifi is not None:
        network["wifis"] = {
            "wlan0": {
                "dhcp4": True,
                "optional": True,
                "regulatory-domain": wifi.country,
                "access-points": {wifi.ssid: {"password": wifi.psk}},
            }
        }
    return _yaml({"network": network})


def cmdline(current: bytes, instance_id: str) -> bytes:
    """The kernel's command line with the data source, so that a boot need not look for others.

    Raises:
        ImageError: If what is there is no command line.
    """
    words = [word for word in one_line(current).split(" ") if not word.startswith("ds=")]
    return " ".join([*words, f"ds=nocloud;i={instance_id}"]).encode() + b"\n"


def one_line(current: bytes) -> str:
    """The kernel's command line as the image has it.

    Raises:
        ImageError: If it is empty, too long or several lines.
    """
    text = current.decode("ascii", "replace").strip()
    if not text or not text.isprintable() or len(current) > MOST_CMDLINE_BYTES:
        raise ImageError("cmdline.txt on the image's boot partition is no command line of one line")
    return text


def _yaml(values: dict[str, Any]) -> bytes:
    # JSON's escapes beyond 16 bits are surrogate pairs, which YAML does not join: such characters go as they are.
    return json.dumps(values, indent=1, ensure_ascii=False).encode() + b"\n"
