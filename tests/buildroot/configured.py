#!/usr/bin/env python3
"""Looks at a loaded Buildroot configuration. Usage: configured.py DEFCONFIG .config SHOW_INFO.json ELEMENTS.tsv SOURCE_DIR

Every line of the defconfig stands verbatim in .config; no symbol of Buildroot's past is in use; every element of GStreamer
that the source names is built; what the image is made of is among the packages, and what nobody needs is not.
"""

import json
import pathlib
import re
import sys

defconfig, config, info, table, source = map(pathlib.Path, sys.argv[1:])
wrong = []
loaded = config.read_text().splitlines()
lines = set(loaded)
value = dict(line.split("=", 1) for line in loaded if re.match(r"BR2_\w+=", line))

for line in defconfig.read_text().splitlines():
    off = re.fullmatch(r"# (BR2_\w+) is not set", line)
    if off and value.get(off[1]):
        wrong.append(f"{off[1]} was to be off and is {value[off[1]]}")
    elif not off and line not in lines:
        symbol = line.split("=", 1)[0]
        wrong.append(f"dropped: {line} ({symbol} is {value.get(symbol, 'unknown here, or lacks something it depends on')})")
if value.get("BR2_LEGACY") == "y":
    wrong.append("BR2_LEGACY is set: a symbol of the defconfig was renamed or removed in this Buildroot")


def named(text):
    """Elements that a source file names: element("x"), has("x"), links of a launch line, and names kept in lists."""
    text = re.split(r"\n#\[cfg\(test\)\]", text)[0]
    text = re.sub(r"\\\n\s*", "", text)
    for word in re.findall(r'\b(?:element|has|make|find)\("([a-z][a-z0-9_]*)"', text):
        yield word
    for string in re.findall(r'"((?:[^"\\]|\\.)*)"', text):
        for link in string.split(" ! ") if " ! " in string else []:
            word = link.split()[0] if link.split() else ""
            if re.fullmatch(r"[a-z][a-z0-9_]*", word):
                yield word
        if string in known or re.match(r"([a-z][a-z0-9_]*) name=", string):
            yield string.split()[0]


rows = [line.split("\t") for line in table.read_text().splitlines() if line and not line.startswith("#")]
wanted = {element: symbol for element, symbol in rows}
# What src/gst.rs knows a Debian package for: words that are elements wherever they stand in quotes.
door = (source / "gst.rs").read_text()
known = set(re.findall(r'"(\w+)"', door[door.index("pub fn package_of"):door.index("pub fn colorimetry")]))
asked = {}
for file in sorted(source.rglob("*.rs")):
    if file.name not in ("gst.rs", "tests.rs"):
        for word in named(file.read_text()):
            asked.setdefault(word, file.relative_to(source))
for word in sorted(asked.keys() - wanted.keys()):
    wrong.append(f"{asked[word]} names the element {word}, {table.name} does not")
for word in sorted(wanted.keys() - asked.keys()):
    if not word.startswith("("):
        wrong.append(f"{table.name} names the element {word}, the source does not")
for word, symbol in wanted.items():
    if symbol != "-" and value.get(symbol) != "y":
        wrong.append(f"{word} needs {symbol}, which is not set")

packages = json.loads(info.read_text())
need = "busybox dosfstools dropbear e2fsprogs eudev host-genimage host-rauc libcamera libubootenv linux mdnsd pastcam rauc squashfs tzdata uboot util-linux"
if "BR2_PACKAGE_RPI_FIRMWARE" in value:
    need += " rpi-firmware wireless-regdb wpa_supplicant"
for package in need.split():
    if package not in packages:
        wrong.append(f"the package {package} is missing")
for package in "avahi dbus ffmpeg gst1-libav ifupdown-scripts openssh systemd python3 bash".split():
    if package in packages:
        wrong.append(f"the package {package} came in by some dependency; nobody needs it")
for package in "gstreamer1 gst1-rtsp-server libcamera host-clang host-rustc".split():
    if package not in packages["pastcam"]["dependencies"]:
        wrong.append(f"pastcam is not built after {package}")
for name, package in packages.items():
    for dependency in package.get("dependencies", []):
        if dependency not in packages:
            wrong.append(f"{name} depends on {dependency}, which there is not")
# A version that moves by itself would make two builds of one commit two images.
for name, package in packages.items():
    if package.get("version") in ("HEAD", "master", "main"):
        wrong.append(f"{name} is not pinned")

for line in wrong:
    print(f"{defconfig.name}: {line}")
print(f"{defconfig.name}: {len(packages)} packages, {len(asked)} elements named by the source")
sys.exit(1 if wrong else 0)
