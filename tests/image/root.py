"""The emulated board's root file system: Debian's binaries under this tree's own overlay, with BusyBox as init.

Owns what goes into the root and its initial RAM disk, and packs both. The overlay, post-build.sh and the RAUC files are taken as they
are; what Buildroot's packages would bring (programs, libraries, GStreamer's plugins, accounts) comes from Debian and from `build`. The
initial RAM disk only loads modules and hands over: Debian's kernel has little built in, the real one has no such disk."""

import gzip
import lzma
import os
import re
import shutil
import subprocess
from pathlib import Path

from build import COMMON

# Programs that the overlay's scripts call and BusyBox has not, or not fit for it.
PROGRAMS = {"libubootenv-tool": ["fw_printenv", "fw_setenv"], "e2fsprogs": ["e2fsck", "resize2fs"], "fdisk": ["sfdisk"], "util-linux": ["partx"],
            "dosfstools": ["fsck.fat"], "dropbear-bin": ["dropbear", "dropbearkey"]}
DEVELOPMENT = ["libssl-dev", "libglib2.0-dev", "libc6-dev", "libgcc-14-dev"]
# GStreamer's plugins: pictures, and H.264 for recordings.
PLUGINS = ["coreelements", "app", "videoconvertscale", "videorate", "jpeg", "x264", "videoparsersbad", "isomp4", "typefindfunctions"]
# What every board needs, behind its hardware's own (boards.py); depmod knows what each needs.
MODULES = ["squashfs", "ext4", "vfat", "nls_cp437", "nls_utf8", "nls_ascii", "nls_iso8859-1", "loop", "dm-verity", "zram"]

PASSWD = "root:x:0:0:root:/root:/bin/sh\npastcam:x:900:900:pastcam camera:/data/cache:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "root:x:0:\ntty:x:5:\ndisk:x:6:\nvideo:x:28:pastcam\naudio:x:29:pastcam\npastcam:x:900:\nnogroup:x:65534:\n"
SHADOW = "root:*:19000::::::\npastcam:!:19000::::::\n"

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec >/dev/kmsg 2>&1
for module in /modules/*; do insmod "$module" || echo "initrd: $module does not load"; done
# The emulated watchdog bites the moment it is opened; its driver is here for `reboot`.
rm -f /dev/watchdog*
for word in $(cat /proc/cmdline); do
  case $word in root=*) root=${word#root=} ;; esac
done
n=0
until [ -b "$root" ]; do
  n=$((n + 1))
  [ $n -lt 600 ] || { echo "initrd: no $root after 60 s"; ls /dev/mmcblk*; sleep 5; reboot -f; }
  sleep 0.1
done
mount -t squashfs -o ro "$root" /root || { echo "initrd: $root cannot be mounted"; sleep 5; reboot -f; }
mount --move /dev /root/dev
umount /proc /sys
exec switch_root /root /sbin/init
"""


def needed(binary):
    """The libraries a program or library asks for by name."""
    said = subprocess.run(["readelf", "-d", binary], capture_output=True, text=True, env={"LC_ALL": "C", "PATH": os.environ["PATH"]}).stdout
    return re.findall(r"\(NEEDED\).*\[(.+)\]", said)


class Root:
    """One root folder, put together from nothing each time."""

    def __init__(self, folder, cpu, packages, sysroot):
        self.home, self.cpu = Path(folder), cpu
        self.lib = f"usr/lib/{cpu['triplet']}"
        self.from_ = [Path(packages), Path(sysroot)]
        shutil.rmtree(self.home, ignore_errors=True)
        for name in ("usr/bin", "usr/sbin", self.lib, "etc/init.d", "boot", "dev", "proc", "sys", "run", "tmp", "var", "root", "data", "mnt"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        for name in ("bin", "sbin", "lib"):
            (self.home / name).symlink_to(f"usr/{name}")

    def find(self, *names):
        """The first of some paths that Debian's folders have."""
        for base in self.from_:
            for name in names:
                if (base / name).exists():
                    return base / name
        raise RuntimeError(f"none of {names} is in {self.from_}")

    def put(self, source, name, mode=0o755):
        target = self.home / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)
        self.libraries(source)

    def libraries(self, binary):
        """Whatever a program needs, and what that needs."""
        for name in needed(binary):
            target = self.home / self.lib / name
            if target.exists():
                continue
            found = self.find(f"{self.lib}/{name}", f"usr/lib/{name}", f"{self.lib}/pulseaudio/{name}", f"{self.lib}/blas/{name}")
            shutil.copyfile(found, target)
            target.chmod(0o755)
            self.libraries(found)

    def fill(self, busybox, rauc, program):
        """Everything but kernel and overlay."""
        loader = self.find("usr/lib/ld-linux-aarch64.so.1" if self.cpu["arch"] == "arm64" else "usr/lib/ld-linux.so.3")
        self.put(loader, f"usr/lib/{loader.name}")
        self.put(busybox, "usr/bin/busybox")
        applets = subprocess.run([self.cpu["user"], "-L", self.home, busybox, "--list-full"], capture_output=True, text=True, check=True).stdout.split()
        for applet in applets:
            link = self.home / ("usr/" + applet.removeprefix("usr/"))
            if not link.exists() and not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to("/usr/bin/busybox")
        for names in PROGRAMS.values():
            for name in names:
                found = self.find(f"usr/sbin/{name}", f"usr/bin/{name}", f"sbin/{name}", f"bin/{name}")
                # BusyBox may have the same name in another folder, earlier on the path.
                for place in ("bin", "sbin"):
                    (self.home / "usr" / place / name).unlink(missing_ok=True)
                self.put(found, f"usr/{found.parent.name}/{name}")
        self.put(rauc, "usr/bin/rauc")
        self.put(program, "usr/bin/pastcam")
        for plugin in PLUGINS:
            name = f"{self.lib}/gstreamer-1.0/libgst{plugin}.so"
            self.put(self.find(name), name)
        for name, text in {"passwd": PASSWD, "group": GROUP, "shadow": SHADOW}.items():
            (self.home / "etc" / name).write_text(text)
        (self.home / "etc/nsswitch.conf").write_text("hosts: files dns\n")

    def overlay(self, board, key_folder, version):
        """This tree's overlay, and post-build.sh as Buildroot runs it."""
        overlay = COMMON / "overlay"
        for path in sorted(overlay.rglob("*")):
            target = self.home / path.relative_to(overlay)
            if path.is_symlink():
                target.unlink(missing_ok=True)
                target.symlink_to(os.readlink(path))
            elif path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif path.name == ".empty":
                target.parent.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        environment = {**os.environ, "PASTCAM_UPDATE_KEY_DIR": str(key_folder)}
        environment.pop("BUILD_DIR", None)
        subprocess.run([COMMON / "post-build.sh", self.home, board], env=environment, check=True)
        (self.home / "etc/pastcam").mkdir(exist_ok=True)
        (self.home / "etc/pastcam/version").write_text(version + "\n")

    def kernel(self, folder, name, hardware):
        """Debian's kernel under the name the board's U-Boot loads, and an initial RAM disk with the modules it lacks."""
        release = next((folder / "usr/lib/modules").iterdir()).name
        shutil.copyfile(folder / f"boot/vmlinuz-{release}", self.home / "boot" / name)
        if not (folder / "usr/lib/modules" / release / "modules.dep").exists():
            subprocess.run(["/sbin/depmod", "-b", folder / "usr", release], check=True, stderr=subprocess.DEVNULL)
        disk = self.home.with_name(self.home.name + ".initrd")
        shutil.rmtree(disk, ignore_errors=True)
        for name_ in ("bin", "dev", "proc", "sys", "root", "modules"):
            (disk / name_).mkdir(parents=True)
        shutil.copy(self.home / "usr/bin/busybox", disk / "bin/busybox")
        for library in self.closure(self.home / "usr/bin/busybox"):
            (disk / library).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.home / library, disk / library)
        (disk / "lib").symlink_to("usr/lib")
        order = []
        for module in [*hardware, *MODULES]:
            said = subprocess.run(["/sbin/modprobe", "-d", folder / "usr", "-S", release, "--show-depends", module], capture_output=True, text=True)
            for line in said.stdout.splitlines():
                words = line.split()
                if words[0] == "insmod" and words[1] not in order:
                    order.append(words[1])
        for number, path in enumerate(order):
            data = Path(path).read_bytes()
            if path.endswith(".xz"):
                data = lzma.decompress(data)
            (disk / "modules" / f"{number:02}-{Path(path).name.removesuffix('.xz')}").write_bytes(data)
        (disk / "init").write_text(INIT)
        (disk / "init").chmod(0o755)
        listing = subprocess.run(["find", "."], cwd=disk, capture_output=True, check=True).stdout
        archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=disk, input=listing, capture_output=True, check=True).stdout
        (self.home / "boot/initrd").write_bytes(gzip.compress(archive, 6, mtime=0))
        shutil.rmtree(disk)
        return len(order)

    def closure(self, binary):
        """The paths inside the root of all libraries that a program in it needs, and of the loader."""
        found, todo = set(), [binary]
        while todo:
            for name in needed(todo.pop()):
                path = self.home / self.lib / name
                if path not in found:
                    found.add(path)
                    todo.append(path)
        loader = [path for path in (self.home / "usr/lib").iterdir() if path.name.startswith("ld-linux")]
        return [path.relative_to(self.home) for path in [*found, *loader]]

    def pack(self, target, *changes):
        """The squashfs, of one root's owner; `changes` are mksquashfs's own words, to make a broken one without a copy."""
        Path(target).unlink(missing_ok=True)
        subprocess.run(["nice", "mksquashfs", self.home, target, "-comp", "zstd", "-Xcompression-level", "3", "-all-root", "-noappend", "-quiet", "-no-progress", *changes],
                       check=True, stdout=subprocess.DEVNULL)
        return target
