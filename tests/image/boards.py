"""Which boards are emulated, and what their cards are made of.

Owns the order of building: packages, compiled parts, root, card, updates good and bad."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import build
import card
import debian
import root
from build import TOP
from debian import Skip

# The hardware's modules, in an order in which their needs come first.
PI = ["bcm2835_wdt", "bcm2835", "sdhci-iproc", "phy-generic", "dwc2", "cdc_ether", "rndis_host"]
BOARDS = {
    # The 3B+ has no machine of its own in QEMU; the 3B differs in radio and network.
    "rpi3": {"cpu": build.ARM64, "qemu": "qemu-system-aarch64", "machine": "raspi3b", "dtb": "bcm2837-rpi-3-b.dtb", "kernel": "linux-image-arm64",
             "modules": PI},
    # The A+ is a B+ without network and with one USB port. Debian's armel is the only ready-made userland for ARMv6, with soft floats.
    "rpi1": {"cpu": build.ARMEL, "qemu": "qemu-system-arm", "machine": "raspi1ap", "dtb": "bcm2835-rpi-a-plus.dtb", "kernel": "linux-image-rpi",
             "modules": PI, "other_slot": True, "short": True,
             # Time by instructions, 4 ns each. By the clock of a busy host the board stood still twice: it answered the network, and none
             # of its programs woke any more. Probably the kernel set its timer to a moment that had gone by, and QEMU's timer of this
             # SoC waits until 32 bits of microseconds come round.
             "options": ["-icount", "shift=2"]},
    # What `scripts/image qemu` builds, started as its README says; no camera is configured, as nobody would have to.
    "qemu": {"cpu": build.VIRT, "kernel": "linux-image-arm64", "modules": ["sdhci-pci", "virtio_mmio", "virtio_net"], "config": {"camera": {"source": None}},
             "short": True},
}
# For this machine: Debian's driver of the SoC's power domains reads registers that QEMU has not.
WORDS = "initcall_blacklist=bcm2835_power_driver_init pastcam.watchdog=off"


# What a run calls on this machine, and the package that has it.
TOOLS = {"make": "make", "bison": "bison", "flex": "flex", "dtc": "device-tree-compiler", "fdtput": "device-tree-compiler", "meson": "meson", "ninja": "ninja-build", "mkimage": "u-boot-tools",
         "genimage": "genimage", "mcopy": "mtools", "mkfs.vfat": "dosfstools", "mksquashfs": "squashfs-tools", "rauc": "rauc", "openssl": "openssl",
         "debugfs": "e2fsprogs", "ffmpeg": "ffmpeg", "cpio": "cpio", "xz": "xz-utils", "depmod": "kmod", "readelf": "binutils",
         "qemu-system-aarch64": "qemu-system-arm", "qemu-system-arm": "qemu-system-arm", "qemu-aarch64": "qemu-user", "qemu-arm": "qemu-user"}


def tools(cpu):
    """Everything TOOLS names, and the processor's compiler; what is missing is installed where this is root's Debian."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    wanted = {**TOOLS, f"{cpu['triplet']}-gcc": f"gcc-{cpu['triplet']}"}
    missing = sorted({package for tool, package in wanted.items() if not shutil.which(tool)})
    if not Path("/usr/include/openssl/ssl.h").exists():
        missing.append("libssl-dev")  # U-Boot's own tools are built for this machine
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                       capture_output=True)
        missing = [package for tool, package in wanted.items() if package in missing and not shutil.which(tool)]
    if missing:
        raise Skip(f"please install, as root: apt-get install {' '.join(missing)}")


def buildroot():
    """The Buildroot checkout, whose configuration of BusyBox is used."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pastcam"
    places = [Path(os.environ["BUILDROOT_DIR"])] if os.environ.get("BUILDROOT_DIR") else sorted(cache.glob("buildroot-20*"), reverse=True)
    for place in places:
        if (place / "package/busybox/busybox.config").exists():
            return place
    raise Skip("no Buildroot checkout; set BUILDROOT_DIR, or let scripts/image fetch one")


def sysroot(arch):
    """The folder of scripts/sysroot: GStreamer for another processor."""
    said = subprocess.run([TOP / "scripts/sysroot", arch], capture_output=True, text=True)
    if said.returncode == 77:
        raise Skip(said.stderr.strip().splitlines()[-1].removeprefix("SKIP: "))
    if said.returncode != 0:
        raise RuntimeError(f"scripts/sysroot {arch}: {said.stderr[-500:]}")
    return Path(said.stdout.split()[-1])


def program(cpu, work):
    """pastcam for the board's processor, or the one PASTCAM_PROGRAM names."""
    if os.environ.get("PASTCAM_PROGRAM"):
        return Path(os.environ["PASTCAM_PROGRAM"])
    log = work / "cargo.log"
    with open(log, "wb") as out:
        code = subprocess.run(["nice", TOP / "scripts/target", cpu["arch"], "build", "--locked", "--release"], cwd=TOP, stdout=out, stderr=out).returncode
    last = log.read_text(errors="replace").splitlines()[-20:]
    if code == 77:
        raise Skip(last[-1].removeprefix("SKIP: "))
    if code != 0:
        raise RuntimeError(f"scripts/target {cpu['arch']} ended with {code}\n" + "\n".join(last))
    target = Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target")
    return target / cpu["rust"] / "release/pastcam"


def tree(source, target, other_slot):
    """The device tree as the emulated firmware hands it over. QEMU's firmware does not know the call with which U-Boot sets the clock of
    the SoC's own card controller, and a 32-bit U-Boot then divides by nought: there the card hangs on the other controller, as in QEMU."""
    shutil.copy(source, target)
    if other_slot:
        for node, value in (("/soc/mmc@7e202000", "disabled"), ("/soc/mmc@7e300000", "okay")):
            subprocess.run(["fdtput", "-t", "s", target, node, "status", value], check=True)
    return target


def pinned(dtb, target):
    """The same with the serial line's name of the kernel that Buildroot is told to build, made fit for U-Boot as post-image.sh does."""
    shutil.copy(dtb, target)
    uart = "/soc/serial@7e201000"
    subprocess.run(["fdtput", "-t", "s", target, "/aliases", "serial0", uart], check=True)
    subprocess.run(["fdtput", "-t", "s", target, "/chosen", "stdout-path", "serial0:115200n8"], check=True)
    subprocess.run(["fdtput", "-t", "s", target, uart, "compatible", "arm,pl011-axi"], check=True)
    subprocess.run([build.COMMON / "uart-for-uboot", target], check=True)
    return target


def start(board, dtb):
    """QEMU's command line (see Machine) for a board: of the README, where that has one; else as the Pi's firmware would start U-Boot."""
    network = "user,id=net,hostfwd=tcp:127.0.0.1:{port}-:9999"
    if dtb:
        words = f"{(build.COMMON / 'cmdline.txt').read_text().strip()} {WORDS}"
        return [board["qemu"], *board.get("options", []), "-M", board["machine"], "-kernel", board["uboot"], "-dtb", dtb, "-append", words,
                "-drive", "file={card},if=sd,format=raw,cache=writeback", "-netdev", network, "-device", "usb-net,netdev=net,mac=b8:27:eb:12:34:56"]
    found = re.search(r"^qemu-system-aarch64 (?:.*\\\n)*.*$", (TOP / "buildroot/README.md").read_text(), re.M)
    told = shlex.split(found[0].replace("\\\n", " ")) if found else []
    # Only where things are is another matter here, and the terminal is a file.
    here = {"-nographic": [], "~/.cache/pastcam/output/qemu/images/u-boot.bin": [board["uboot"]], "if=none,id=card,file=card.img,format=raw":
            ["if=none,id=card,file={card},format=raw,cache=writeback"], network.format(port=9999): [network]}
    if missing := [word for word in here if word not in told]:
        raise RuntimeError(f"buildroot/README.md's command line for QEMU has no {missing}: {told}")
    return [new for word in told for new in here.get(word, [word])]


def make(name, cache, work, report, short):
    """Everything a board needs to be switched on."""
    board = dict(BOARDS[name])
    cpu = board["cpu"]
    tools(cpu)
    home = Path(cache) / "image"
    apt = debian.Apt(home, cpu["arch"])
    packages = apt.unpack(home / cpu["arch"] / "packages", sorted([*root.PROGRAMS, *root.DEVELOPMENT]))
    kernel = apt.unpack(home / cpu["arch"] / "kernel", [apt.depends(board["kernel"])], closure=False)
    libraries = sysroot(cpu["arch"])
    report.figure("packages are there")
    made = build.Made(home)
    uboot = build.uboot(made, apt, cpu)
    board["uboot"] = build.loaded(made, cpu, uboot)
    rauc, busybox = build.rauc(made, apt, cpu, packages), build.busybox(made, apt, cpu, buildroot(), packages)
    report.figure("U-Boot, RAUC and BusyBox are built")
    pastcam = program(cpu, work)
    report.figure("pastcam is built")

    keys = card.keys(work / "keys")
    folder = root.Root(work / "root", cpu, packages, libraries)
    folder.fill(busybox, rauc, pastcam)
    folder.overlay(name, keys, "1.0.0-test")
    folder.kernel(kernel, cpu["kernel"], board["modules"])
    # An emulated board is slow, and its trials need not last as long as a real one's.
    (folder.home / "etc/default").mkdir(exist_ok=True)
    (folder.home / "etc/default/pastcam-watch").write_text("PROOF=20\nFRAMES=10\nTRIAL=120\n")
    squashfs = folder.pack(work / "1.squashfs")
    report.figure(f"root file system: {squashfs.stat().st_size / 1e6:.1f} MB, of which {os.path.getsize(folder.home / 'boot/initrd') / 1e6:.1f} MB are modules that the real kernel has built in")
    dtb = tree(next((kernel / "usr/lib").rglob(board["dtb"])), work / "board.dtb", board.get("other_slot")) if "dtb" in board else None
    board["image"], board["same"] = card.image(work / "images", squashfs, uboot, name, keys, dtb)
    board["start"] = start(board, dtb)
    if dtb:
        board["start_pinned"] = start(board, pinned(dtb, work / "pinned.dtb"))
    if short:
        return board

    (folder.home / "etc/pastcam/version").write_text("1.1.0-test\n")
    good = folder.pack(work / "2.squashfs")
    board["good"] = card.bundle(work / "good.raucb", good, name, "1.1.0-test", keys, work / "bundle")
    # What is refused is refused before its contents are looked at: small ones do.
    little = work / "little.squashfs"
    subprocess.run(["mksquashfs", folder.home / "etc", little, "-quiet", "-no-progress", "-noappend"], check=True, stdout=subprocess.DEVNULL)
    board["stranger"] = card.bundle(work / "stranger.raucb", little, name, "6.6.6", card.keys(work / "strangers-keys"), work / "bundle")
    other = "rpi1" if name != "rpi1" else "rpi3"
    board["other"] = card.bundle(work / "other.raucb", little, other, "1.1.0-test", keys, work / "bundle")
    dead = folder.pack(work / "3.squashfs", "-e", f"boot/{cpu['kernel']}", "-p", f"boot/{cpu['kernel']} f 644 0 0 head -c 4000000 /dev/zero")
    board["dead_kernel"] = card.bundle(work / "dead.raucb", dead, name, "1.2.0-dead-kernel", keys, work / "bundle")
    mute = folder.pack(work / "4.squashfs", "-e", "usr/bin/pastcam", "-p", "usr/bin/pastcam f 755 0 0 printf '#!/bin/sh\\nsleep 5; exit 3\\n'")
    board["mute"] = card.bundle(work / "mute.raucb", mute, name, "1.3.0-mute", keys, work / "bundle")
    for path in (good, dead, mute, little):
        path.unlink()
    return board


# The steps of a short run.
SHORT = ("pinned_tree", "first_boot", "second_boot")


def steps(suite):
    """In the order in which they hand the card on."""
    firmware = [suite.pinned_tree] if "start_pinned" in suite.board else []
    return [*firmware, suite.first_boot, suite.second_boot, suite.power_cuts, suite.broken_settings, suite.good_update, suite.kernel_that_does_not_boot,
            suite.program_that_does_not_run, suite.cut_while_updating, suite.nothing_left]
