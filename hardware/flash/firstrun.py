"""The script that Raspberry Pi OS Bookworm, and Trixie's first image, run before their first normal boot.

systemd runs what ``systemd.run=`` on the kernel's command line names, and reboots. The path is that under which
Bookworm mounts the boot partition: for ``/boot/firstrun.sh``, Imager's old one, the image would rewrite both.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hardware.flash import cloudinit, firstboot
from hardware.flash.settings import Wifi

_RUN = (
    f"systemd.run={firstboot.MOUNTED_AT}/firstrun.sh systemd.run_success_action=reboot "
    "systemd.unit=kernel-command-line.target"
)

_SCRIPT = """\
#!/bin/sh
# Written by `coda flash`. Every step may fail by itself: the board boots in any case.
set +e
umask 077
custom=/usr/lib/raspberrypi-sys-mods/imager_custom
"$custom" set_hostname {hostname}
# A password of '*' fits nothing: logging in takes a key.
/usr/lib/userconf-pi/userconf {user} '*'
{ssh}{wifi}install -m 644 {folder}/{unit} /etc/systemd/system/
systemctl enable {unit}
rm -f {boot}/firstrun.sh
sed -i 's| systemd\\.[^ ]*||g' {boot}/cmdline.txt
sync
exit 0
"""

_WIFI = """\
"$custom" set_wlan_country {country}
cat > /etc/NetworkManager/system-connections/coda.nmconnection <<'CONNECTION'
[connection]
id=coda
type=wifi

[wifi]
mode=infrastructure
ssid={ssid}

[wifi-security]
key-mgmt=wpa-psk
psk={psk}

[ipv4]
method=auto

[ipv6]
method=auto
CONNECTION
chmod 600 /etc/NetworkManager/system-connections/coda.nmconnection
"""


def script(hostname: str, user: str, ssh_keys: Sequence[str], wifi: Wifi | None) -> str:
    """The script. It holds the Wi-Fi's key, and deletes itself."""
    keys = " ".join(shlex.quote(key) for key in ssh_keys)
    return _SCRIPT.format(
        hostname=shlex.quote(hostname),
        user=shlex.quote(user),
        ssh=f'"$custom" enable_ssh -k {keys}\n' if ssh_keys else "",
        wifi=_wifi(wifi) if wifi is not None else "",
        folder=f"{firstboot.MOUNTED_AT}/{firstboot.FOLDER}",
        unit=firstboot.SETUP_UNIT_NAME,
        boot=firstboot.MOUNTED_AT,
    )


def cmdline(current: bytes) -> bytes:
    """The kernel's command line with the script in it.

    Raises:
        ImageError: If what is there is no command line.
    """
    words = [word for word in cloudinit.one_line(current).split(" ") if not word.startswith("systemd.")]
    return f"{' '.join(words)} {_RUN}\n".encode()


def _wifi(wifi: Wifi) -> str:
    # NetworkManager's list of bytes needs no escapes, whatever a network is called.
    ssid = "".join(f"{byte};" for byte in wifi.ssid.encode())
    return _WIFI.format(country=shlex.quote(wifi.country), ssid=ssid, psk=wifi.psk)
