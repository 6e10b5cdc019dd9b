"""The emulated SD card and the updates for it, and looking into a card that is out of its board.

Owns the card's file. The image itself comes from this tree's post-image.sh and genimage template; here it only grows to the size of a
card. Partitions are read and written through offsets with mtools and debugfs: nothing is mounted and no root is needed."""

import os
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

from build import COMMON

CARD_BYTES = 1 << 30  # QEMU wants a power of two; an image keeps 256 MiB of its data partition free
ENV_PLACES, ENV_BYTES = (0x100000, 0x110000), 0x4000  # as uboot.fragment says


def keys(folder):
    """A key pair that signs updates, of this tree's own maker; the folder."""
    subprocess.run([COMMON / "update-key"], env={**os.environ, "PASTCAM_UPDATE_KEY_DIR": str(folder)}, check=True, capture_output=True)
    return folder


def bundle(target, squashfs, board, version, key_folder, work):
    """An update as post-image.sh makes it, of any version and signed with any key."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    subprocess.run([COMMON / "render", COMMON.parent / board / "board.conf", COMMON / "rauc/manifest.raucm.in", work / "manifest.raucm"],
                   env={**os.environ, "VERSION": version}, check=True)
    os.link(squashfs, work / "rootfs.squashfs")
    target.unlink(missing_ok=True)
    said = subprocess.run(["rauc", "bundle", f"--cert={key_folder}/cert.pem", f"--key={key_folder}/key.pem", f"--keyring={key_folder}/cert.pem", work, target],
                          capture_output=True, text=True)
    shutil.rmtree(work)
    if said.returncode != 0:
        raise RuntimeError(f"rauc bundle: {said.stderr.strip()}")
    return target


def image(folder, squashfs, uboot, board, key_folder, dtb):
    """The card's image, by post-image.sh from a folder filled as Buildroot fills it; the firmware's files are stand-ins."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.link(squashfs, folder / "rootfs.squashfs")
    shutil.copy(uboot, folder / "u-boot.bin")
    settings = COMMON.parent / board / "config.txt"
    if settings.exists():
        shutil.copy(dtb, folder / "board.dtb")
        (folder / "rpi-firmware").mkdir()
        for name in ("start.elf", "fixup.dat", "bootcode.bin"):
            (folder / "rpi-firmware" / name).write_bytes(b"an emulated board has no such firmware\n")
        for name in (settings, COMMON / "cmdline.txt"):
            shutil.copy(name, folder / "rpi-firmware" / name.name)
    log = folder / "post-image.log"
    with open(log, "wb") as out:
        code = subprocess.run([COMMON / "post-image.sh", folder, board], stdout=out, stderr=out, env={**os.environ, "PASTCAM_UPDATE_KEY_DIR": str(key_folder)}).returncode
    if code != 0:
        raise RuntimeError(f"post-image.sh ended with {code}\n" + log.read_text()[-2000:])
    return folder / f"pastcam-{board}.img", folder / f"pastcam-{board}.raucb"


class Card:
    """A card in nobody's slot."""

    def __init__(self, path):
        self.path = Path(path)

    @classmethod
    def new(cls, path, image_file):
        subprocess.run(["cp", "--sparse=always", image_file, path], check=True)
        os.truncate(path, CARD_BYTES)
        return cls(path)

    def copy(self, path):
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", self.path, path], check=True)
        return Card(path)

    def partition(self, number):
        """Begin and length in bytes, by the MBR."""
        with open(self.path, "rb") as disk:
            table = disk.read(512)
        begin, sectors = struct.unpack_from("<II", table, 446 + 16 * (number - 1) + 8)
        return begin * 512, sectors * 512

    def fat(self, tool, *words):
        """One of mtools on the first partition."""
        return subprocess.run([tool, "-i", f"{self.path}@@{self.partition(1)[0]}", *words], capture_output=True, env={**os.environ, "MTOOLS_SKIP_CHECK": "1"})

    def put(self, name, data):
        """Writes a file to the FAT partition, as a PC would."""
        done = subprocess.run(["mcopy", "-o", "-i", f"{self.path}@@{self.partition(1)[0]}", "-", f"::{name}"], input=data, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"mcopy {name}: {done.stderr.decode()}")

    def get(self, name):
        """A file of the FAT partition, or None."""
        done = self.fat("mcopy", f"::{name}", "-")
        return done.stdout if done.returncode == 0 else None

    def data(self, folder):
        """Everything of the data partition, in a folder; the journal is replayed on a copy first, as the next boot would."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        begin, length = self.partition(4)
        copy = folder.with_name(folder.name + ".ext4")
        subprocess.run(["dd", f"if={self.path}", f"of={copy}", "bs=1M", f"skip={begin}", f"count={length}", "iflag=skip_bytes,count_bytes", "conv=sparse", "status=none"], check=True)
        checked = subprocess.run(["e2fsck", "-p", copy], capture_output=True, text=True)
        # rdump may not give a file's owner away without root; the contents are what counts.
        subprocess.run(["debugfs", "-R", f"rdump / {folder}", copy], capture_output=True)
        copy.unlink()
        return checked.returncode, (checked.stdout + checked.stderr).strip()

    def environment(self):
        """U-Boot's variables: of the copy that is whole and newer; None where neither is."""
        best = None
        with open(self.path, "rb") as disk:
            for place in ENV_PLACES:
                disk.seek(place)
                raw = disk.read(ENV_BYTES)
                crc, serial = struct.unpack_from("<IB", raw)
                if zlib.crc32(raw[5:]) == crc and (best is None or (serial - best[0]) % 256 < 128):
                    best = (serial, raw[5:])
        if best is None:
            return None
        return dict(re.findall(r"([^=\0]+)=([^\0]*)\0", best[1].split(b"\0\0")[0].decode(errors="replace") + "\0"))

    def set_environment(self, variables):
        """Writes U-Boot's variables to both copies, as if it had saved them."""
        body = b"".join(f"{name}={value}".encode() + b"\0" for name, value in variables.items()) + b"\0"
        body = body.ljust(ENV_BYTES - 5, b"\0")
        with open(self.path, "r+b") as disk:
            for serial, place in enumerate(ENV_PLACES):
                disk.seek(place)
                disk.write(struct.pack("<IB", zlib.crc32(body), serial) + body)
