"""What has to be compiled for the emulated board: U-Boot, RAUC without D-Bus, BusyBox as Buildroot configures it, and pastcam.

Owns the folder `made` of the cache: each result lies under a name that carries the hash of all it was made from, so that a second
run builds nothing. Sources are Debian's, configurations are this tree's and Buildroot's. Where something cannot be built here, Skip."""

import hashlib
import inspect
import os
import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
COMMON = TOP / "buildroot/board/common"

# Debian's names of the processor, its compiler, U-Boot's configuration of the board, Rust's name, qemu-user's program
ARM64 = {"arch": "arm64", "triplet": "aarch64-linux-gnu", "cpu": "aarch64", "uboot": "rpi_3_defconfig", "fragment": "common/uboot-rpi.fragment",
         "rust": "aarch64-unknown-linux-gnu", "user": "qemu-aarch64", "make": "arm64", "kernel": "Image"}
ARMEL = {"arch": "armel", "triplet": "arm-linux-gnueabi", "cpu": "arm", "uboot": "rpi_defconfig", "fragment": "common/uboot-rpi.fragment",
         "rust": "arm-unknown-linux-gnueabi", "user": "qemu-arm", "make": "arm", "kernel": "zImage"}
# The same processor in QEMU's own machine.
VIRT = {**ARM64, "uboot": "qemu_arm64_defconfig", "fragment": "qemu/uboot.fragment"}

# U-Boot before 2025.07 calls these by other names.
OLDER = {"CONFIG_ENV_REDUNDANT": "CONFIG_SYS_REDUNDAND_ENVIRONMENT", "CONFIG_ENV_MMC_DEVICE_INDEX": "CONFIG_SYS_MMC_ENV_DEV"}


def run(*words, log, cwd=None, env=None):
    """Runs a step of a build with low priority; its output goes to the log, whose end is told when it fails."""
    with open(log, "ab") as out:
        out.write(f"$ {' '.join(map(str, words))}\n".encode())
        out.flush()
        code = subprocess.run(["nice", *map(str, words)], cwd=cwd, env={**os.environ, **(env or {})}, stdout=out, stderr=out, stdin=subprocess.DEVNULL).returncode
    if code != 0:
        tail = "\n".join(Path(log).read_text(errors="replace").splitlines()[-25:])
        raise RuntimeError(f"{words[0]} ended with {code}; the log is {log}\n{tail}")


class Made:
    """The cache of compiled things."""

    def __init__(self, cache):
        self.home = Path(cache) / "made"
        self.home.mkdir(parents=True, exist_ok=True)

    def get(self, name, inputs, build):
        """The file `name` made from `inputs` (texts and files); `build(target, scratch, log)` writes it."""
        digest = hashlib.sha256(inspect.getsource(build).encode())
        for each in inputs:
            digest.update(each.read_bytes() if isinstance(each, Path) else str(each).encode())
        target = self.home / f"{name}-{digest.hexdigest()[:12]}"
        if target.exists():
            return target
        scratch = self.home / f"{name}.tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        log = self.home / f"{name}.log"
        log.unlink(missing_ok=True)
        build(target.with_suffix(".new"), scratch, log)
        target.with_suffix(".new").rename(target)
        shutil.rmtree(scratch)
        for old in self.home.glob(f"{name}-????????????"):
            if old != target:
                old.unlink()
        return target


def uboot(made, apt, cpu):
    """u-boot.bin of the board's own defconfig with this tree's fragment, from Debian's U-Boot source."""
    source, version = apt.source(made.home.parent / "src", "u-boot")
    fragments = [COMMON / "uboot.fragment", COMMON.parent / cpu["fragment"]]

    def build(target, scratch, log):
        text = "".join(fragment.read_text() for fragment in fragments)
        if tuple(map(int, version.split(".")[:2])) < (2025, 7):
            for new, old in OLDER.items():
                text = text.replace(new + "=", old + "=")
        make = ["make", "-s", "-C", source, f"O={scratch}", f"CROSS_COMPILE={cpu['triplet']}-", f"-j{os.cpu_count()}"]
        run(*make, cpu["uboot"], log=log)
        (scratch / "fragment").write_text(text)
        run(source / "scripts/kconfig/merge_config.sh", "-m", "-O", scratch, scratch / ".config", scratch / "fragment", cwd=source, log=log)
        run(*make, "olddefconfig", log=log)
        run(COMMON / "check-fragment", scratch / ".config", scratch / "fragment", log=log)
        run(*make, "u-boot.bin", log=log, env={"SOURCE_DATE_EPOCH": "0"})
        shutil.copy(scratch / "u-boot.bin", target)

    return made.get(f"u-boot-{cpu['uboot']}", [*fragments, version], build)


def loaded(made, cpu, uboot):
    """U-Boot as QEMU must be given it: it starts a raw 32-bit kernel where the Pi's firmware would not."""
    if cpu["arch"] == "arm64":
        return uboot
    stub = TOP / "tests/image/stub.S"

    def build(target, scratch, log):
        run(f"{cpu['triplet']}-gcc", "-nostdlib", "-c", "-o", scratch / "stub.o", stub, log=log)
        run(f"{cpu['triplet']}-objcopy", "-O", "binary", scratch / "stub.o", scratch / "stub", log=log)
        target.write_bytes((scratch / "stub").read_bytes() + uboot.read_bytes())

    return made.get(f"loaded-{cpu['uboot']}", [stub, uboot], build)


def rauc(made, apt, cpu, sysroot):
    """RAUC as Buildroot builds it for this tree: no D-Bus service, no network, no JSON."""
    source, version = apt.source(made.home.parent / "src", "rauc")

    def build(target, scratch, log):
        lib = f"{sysroot}/usr/lib/{cpu['triplet']}"
        flags = f"['--sysroot={sysroot}', '-B{lib}', '-L{lib}']"
        # Debian's 32-bit libraries have 64-bit times: without these, OpenSSL reads half of a bundle's signing time from elsewhere.
        wide = flags.replace("]", ", '-D_FILE_OFFSET_BITS=64', '-D_TIME_BITS=64']")
        (scratch / "cross").write_text(f"""[binaries]
c = '{cpu['triplet']}-gcc'
strip = '{cpu['triplet']}-strip'
pkgconfig = 'pkg-config'
[properties]
sys_root = '{sysroot}'
pkg_config_libdir = '{lib}/pkgconfig:{sysroot}/usr/share/pkgconfig'
[built-in options]
c_args = {wide}
c_link_args = {flags}
[host_machine]
system = 'linux'
cpu_family = '{cpu['cpu']}'
cpu = '{cpu['cpu']}'
endian = 'little'
""")
        out = scratch / "out"
        run("meson", "setup", out, source, "--cross-file", scratch / "cross", "--buildtype=release", "--wrap-mode=nodownload", "-Dservice=false", "-Dnetwork=false",
            "-Dstreaming=false", "-Djson=disabled", "-Dgpt=disabled", "-Dtests=false", "-Dmanpages=false", "-Dcreate=false", log=log,
            env={"PKG_CONFIG_SYSROOT_DIR": str(sysroot)})
        run("ninja", "-C", out, "rauc", log=log)
        run(f"{cpu['triplet']}-strip", "-o", target, out / "rauc", log=log)

    return made.get(f"rauc-{cpu['arch']}", [version], build)


def busybox(made, apt, cpu, buildroot, sysroot):
    """BusyBox from Debian's source, configured as Buildroot does, with this tree's fragment."""
    source, version = apt.source(made.home.parent / "src", "busybox")
    config, fragment = buildroot / "package/busybox/busybox.config", COMMON / "busybox.fragment"

    def build(target, scratch, log):
        lib = f"{sysroot}/usr/lib/{cpu['triplet']}"
        # The last word on a symbol counts in a .config of many; without oldconfig's questions.
        seen = {}
        for line in (config.read_text() + fragment.read_text() + "# CONFIG_TC is not set\n").splitlines():
            name = line.removeprefix("# ").split("=")[0].split(" ")[0]
            if name.startswith("CONFIG_"):
                seen[name] = line
        (scratch / ".config").write_text("\n".join(seen.values()) + "\n")
        make = ["make", "-s", "-C", source, f"O={scratch}", f"CROSS_COMPILE={cpu['triplet']}-", f"ARCH={cpu['make']}", f"-j{os.cpu_count()}",
                f"EXTRA_CFLAGS=--sysroot={sysroot} -B{lib} -L{lib}", f"EXTRA_LDFLAGS=--sysroot={sysroot} -B{lib} -L{lib}"]
        run("sh", "-c", f"yes '' | {' '.join(repr(str(word)) for word in make)} oldconfig", log=log)
        run(*make, "busybox", log=log)
        shutil.copy(scratch / "busybox", target)

    return made.get(f"busybox-{cpu['arch']}", [config, fragment, version], build)
