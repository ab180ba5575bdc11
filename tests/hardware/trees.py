"""Fake file trees that hold what real boards' kernels print."""

from __future__ import annotations

import struct
from pathlib import Path

X86_CPUINFO = "".join(
    f"processor\t: {i}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz\n\n"
    for i in range(4)
)
ARM_CPUINFO = "".join(f"processor\t: {i}\nBogoMIPS\t: 108.00\nCPU part\t: 0xd0b\n\n" for i in range(4))


def put(root: Path, name: str, content: str | bytes | int) -> Path:
    """Write one file of the tree, with its folders."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())
    return path


def pi(root: Path, model: str, revision: int) -> Path:
    """A Raspberry Pi by its device tree."""
    put(root, "proc/device-tree/model", model.encode() + b"\0")
    put(root, "proc/device-tree/system/linux,revision", struct.pack(">I", revision))
    put(root, "proc/cpuinfo", ARM_CPUINFO)
    put(root, "proc/meminfo", "MemTotal:        3884384 kB")
    return root


def jetson(root: Path, *compatible: str, l4t: str | None = None) -> Path:
    """A Jetson by its device tree."""
    put(root, "proc/device-tree/model", b"NVIDIA Jetson Developer Kit\0")
    put(root, "proc/device-tree/compatible", b"".join(entry.encode() + b"\0" for entry in compatible))
    put(root, "proc/cpuinfo", ARM_CPUINFO)
    if l4t is not None:
        put(root, "etc/nv_tegra_release", l4t)
    return root


def rapl(root: Path, *, energy_uj: int = 1000, range_uj: int = 262_143_328_850, packages: int = 1) -> list[Path]:
    """RAPL as powercap shows it: packages, a core subdomain each, and psys. Returns the packages' energy files."""
    base = "sys/class/powercap"
    counters = []
    for i in range(packages):
        for domain, name in ((f"intel-rapl:{i}", f"package-{i}"), (f"intel-rapl:{i}:0", "core")):
            put(root, f"{base}/{domain}/name", name)
            put(root, f"{base}/{domain}/max_energy_range_uj", range_uj)
            path = put(root, f"{base}/{domain}/energy_uj", energy_uj)
            counters += [path] if name.startswith("package") else []
    put(root, f"{base}/intel-rapl:{packages}/name", "psys")
    put(root, f"{base}/intel-rapl:{packages}/max_energy_range_uj", range_uj)
    put(root, f"{base}/intel-rapl:{packages}/energy_uj", energy_uj * 9)
    return counters


PMIC_ANSWER = """\
 3V7_WL_SW_A current(0)=0.12199130A
   3V3_SYS_A current(1)=0.08392500A
   1V8_SYS_A current(2)=0.16589500A
  DDR_VDD2_A current(3)=0.00000000A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.19322500A
    0V8_SW_A current(6)=0.32884000A
  VDD_CORE_A current(7)=1.54489000A
   3V3_DAC_A current(17)=0.00000000A
   3V3_ADC_A current(18)=0.00036621A
   0V8_AON_A current(16)=0.00500000A
      HDMI_A current(22)=0.01245114A
 3V7_WL_SW_V volt(8)=3.70216400V
   3V3_SYS_V volt(9)=3.31304800V
   1V8_SYS_V volt(10)=1.79706300V
  DDR_VDD2_V volt(11)=1.10842800V
  DDR_VDDQ_V volt(12)=0.60549410V
   1V1_SYS_V volt(13)=1.10549800V
    0V8_SW_V volt(14)=0.80146520V
  VDD_CORE_V volt(15)=0.88725180V
   3V3_DAC_V volt(20)=3.30891300V
   3V3_ADC_V volt(21)=3.30586100V
   0V8_AON_V voltage(19)=0.79560440V
      HDMI_V volt(23)=5.10588000V
     EXT5V_V volt(24)=4.87894000V
      BATT_V volt(25)=0.00000000V
"""
PMIC_W = (
    0.12199130 * 3.70216400 + 0.08392500 * 3.31304800 + 0.16589500 * 1.79706300 + 0.19322500 * 1.10549800
    + 0.32884000 * 0.80146520 + 1.54489000 * 0.88725180 + 0.00036621 * 3.30586100 + 0.00500000 * 0.79560440
    + 0.01245114 * 5.10588000
)  # fmt: skip


def ina_hwmon(root: Path, address: str, hwmon: int, rails: dict[str, tuple[int, int]]) -> Path:
    """One INA3221 as JetPack 5 and later show it: label to (millivolts, milliamperes)."""
    folder = f"sys/bus/i2c/drivers/ina3221/{address}/hwmon/hwmon{hwmon}"
    for channel, (label, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
        put(root, f"{folder}/in{channel}_label", label)
        put(root, f"{folder}/in{channel}_input", millivolts)
        put(root, f"{folder}/curr{channel}_input", milliamperes)
    put(root, f"{folder}/in7_label", "sum of shunt voltages")
    put(root, f"{folder}/in7_input", 99)
    return root / folder


def ina_iio(root: Path, rails: dict[str, int]) -> Path:
    """One INA3221 as JetPack 4 shows it: label to milliwatts."""
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    for channel, (label, milliwatts) in enumerate(rails.items()):
        put(root, f"{folder}/rail_name_{channel}", label)
        put(root, f"{folder}/in_power{channel}_input", milliwatts)
        put(root, f"{folder}/in_voltage{channel}_input", 5000)
        put(root, f"{folder}/in_current{channel}_input", milliwatts // 5)
    return root / folder


def program(root: Path, name: str, script: str) -> Path:
    """A fake binary: a shell script."""
    path = put(root, name, f"#!/bin/sh\n{script}")
    path.chmod(0o755)
    return path
