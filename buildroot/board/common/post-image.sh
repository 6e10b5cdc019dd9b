#!/bin/sh
# post-image.sh BINARIES_DIR BOARD: run by Buildroot when the root file system is packed. Makes the card's image,
# pastcam-BOARD.img, and the update for boards that run already, pastcam-BOARD.raucb.
set -eu
images=$1 board=$2
common=$(cd "$(dirname "$0")" && pwd)
facts=$common/../$board/board.conf
VERSION=$("$common/version")
export VERSION

fact() { sed -n "s/^$1=//p" "$facts"; }

# A slot is 128 MiB (genimage.cfg.in); a bigger system could never be an update.
size=$(stat -c %s "$images/rootfs.squashfs")
if [ "$size" -gt $((128 << 20)) ]; then
	echo "post-image: rootfs.squashfs has $size bytes, a slot only $((128 << 20))" >&2
	exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$common/render" "$facts" "$common/boot.cmd" "$work/boot.cmd"
mkimage -A "$(fact ARCH)" -O linux -T script -C none -n pastcam -d "$work/boot.cmd" "$images/boot.scr" >/dev/null
# Two copies of 16 KiB, the second 64 KiB behind the first.
head -c 131072 /dev/zero >"$images/uboot-env.zero"

# Before the device trees go to the FAT partition.
[ ! -d "$images/rpi-firmware" ] || "$common/uart-for-uboot" "$images"/*.dtb

# The FAT partition: boot script, firmware with its device trees and overlays where there is one, examples of set-up files.
{
	echo boot.scr
	if [ -d "$images/rpi-firmware" ]; then
		echo u-boot.bin
		(cd "$images" && printf '%s\n' *.dtb rpi-firmware/*)
	fi
} >"$work/files"
card=$common/overlay/usr/share/pastcam/card
if [ -d "$card" ]; then
	rm -rf "$images/card"
	cp -R "$card" "$images/card"
	(cd "$images" && printf '%s\n' card/*) >>"$work/files"
fi
sed 's|.*|\t\t\t"&",|' "$work/files" >"$work/list"
sed -e "/@FILES@/{r $work/list" -e 'd;}' "$common/genimage.cfg.in" >"$work/genimage.in"
"$common/render" "$facts" "$work/genimage.in" "$images/genimage.cfg"
mkdir "$work/root"
genimage --rootpath "$work/root" --tmppath "$work/genimage" --inputpath "$images" --outputpath "$images" \
	--config "$images/genimage.cfg"

# The update: the same root file system with a signed manifest.
keys=$("$common/update-key")
mkdir "$work/bundle"
"$common/render" "$facts" "$common/rauc/manifest.raucm.in" "$work/bundle/manifest.raucm"
# A link, not a copy, where the file system has them.
ln "$images/rootfs.squashfs" "$work/bundle/" 2>/dev/null || cp "$images/rootfs.squashfs" "$work/bundle/"
rm -f "$images/pastcam-$board.raucb"
rauc bundle --cert="$keys/cert.pem" --key="$keys/key.pem" --keyring="$keys/cert.pem" \
	"$work/bundle" "$images/pastcam-$board.raucb"
