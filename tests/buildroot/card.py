#!/usr/bin/env python3
"""Looks at a card's image: partition table, gap, both systems. Usage: card.py IMAGE ROOTFS FW_ENV_CONFIG DISK"""

import struct
import sys

image, rootfs, environment, disk = sys.argv[1:]
MIB = 1 << 20
# (active, type, start, size), the layout that boot.cmd, fw_env.config and the first boot rely on.
WANTED = [
    (0x80, 0x0C, 4 * MIB, 256 * MIB),
    (0, 0x83, 260 * MIB, 128 * MIB),
    (0, 0x83, 388 * MIB, 128 * MIB),
    (0, 0x83, 516 * MIB, 32 * MIB),
]
wrong = []


def same(what, got, wanted):
    if got != wanted:
        wrong.append(f"{what}: {got}, not {wanted}")


with open(image, "rb") as card:
    first = card.read(512)
    same("mark of the partition table", first[510:], b"\x55\xaa")
    same("disk signature", struct.unpack_from("<I", first, 440)[0], 0x70617374)
    for number, wanted in enumerate(WANTED):
        active, kind, start, size = struct.unpack_from("<B3xB3xII", first, 446 + 16 * number)
        same(f"partition {number + 1}", (active, kind, start * 512, size * 512), wanted)
    same("bytes that are not 0 in the gap", sum(map(bool, card.read(4 * MIB - 512))), 0)
    with open(rootfs, "rb") as file:
        system = file.read()
    for number in (1, 2):
        card.seek(WANTED[number][2])
        same(f"partition {number + 1} is the root file system", card.read(len(system)) == system, True)
    card.seek(0, 2)
    same("size", card.tell(), 548 * MIB)

# U-Boot's environment as the running system writes it: two copies, in the gap, not over each other.
with open(environment, encoding="utf-8") as file:
    places = [line.split() for line in file if line.strip() and not line.startswith("#")]
same("copies of the environment", len(places), 2)
spans = sorted((int(start, 0), int(start, 0) + int(size, 0)) for _, start, size, *_ in places)
same("disk of the environment", {place[0] for place in places}, {disk})
if not (MIB <= spans[0][0] < spans[0][1] <= spans[1][0] < spans[1][1] <= MIB + 128 * 1024):
    wrong.append(f"environment outside of what flashing clears: {spans}")

for line in wrong:
    print(line)
sys.exit(1 if wrong else 0)
