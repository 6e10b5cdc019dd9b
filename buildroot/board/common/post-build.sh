#!/bin/sh
# post-build.sh TARGET_DIR BOARD: run by Buildroot before the root file system is packed. Puts the board's facts into the
# files that need them, the certificate of updates, the version; takes out what nobody needs; looks whether the kernel,
# U-Boot and busybox were configured as their fragments ask.
set -eu
target=$1 board=$2
common=$(cd "$(dirname "$0")" && pwd)
facts=$common/../$board/board.conf
VERSION=$("$common/version")
export VERSION

mkdir -p "$target/etc/rauc"
"$common/render" "$facts" "$common/rauc/system.conf.in" "$target/etc/rauc/system.conf"
"$common/render" "$facts" "$common/rauc/fw_env.config.in" "$target/etc/fw_env.config"
keys=$("$common/update-key")
install -m 0644 "$keys/cert.pem" "$target/etc/rauc/keyring.pem"
# Its time is also the earliest the clock may say: a board without a battery starts in 1970.
mkdir -p "$target/etc/pastcam"
echo "$VERSION" >"$target/etc/pastcam/version"
# usr/lib/pastcam/defaults wants to know whether there is a camera.
grep -E '^(BOARD|SOURCE)=' "$facts" >"$target/etc/pastcam/board"

# Packages bring init scripts of their own. Only these are wanted, and those the overlay brings.
keep=" rcK rcS S02sysctl S10udevd S11modules S50mdnsd "
for script in "$target"/etc/init.d/*; do
	name=$(basename "$script")
	case $keep in
	*" $name "*) continue ;;
	esac
	[ -e "$common/overlay/etc/init.d/$name" ] || rm -f "$script"
done

# The firmware hands over the device tree from the FAT partition, with the overlays of config.txt.
rm -rf "$target"/boot/*.dtb "$target/boot/overlays"

# Buildroot's own variables; absent where this script is tried without a build.
if [ -n "${BUILD_DIR:-}" ] && [ -n "${BR2_CONFIG:-}" ]; then
	# What the configuration names for one package, with the path of this tree put in.
	fragments() {
		sed -n "s/^$1=\"\(.*\)\"/\1/p" "$BR2_CONFIG" |
			sed "s|\$(BR2_EXTERNAL_PASTCAM_PATH)|$(cd "$common/../.." && pwd)|g"
	}
	check() { # PACKAGE SYMBOL
		config=$(find "$BUILD_DIR" -mindepth 2 -maxdepth 2 -path "$BUILD_DIR/$1-*/.config" ! -path '*-headers-*' ! -path '*-tools-*' | head -n 1)
		if [ -z "$config" ]; then
			echo "post-build: $1 was configured nowhere in $BUILD_DIR" >&2
			exit 1
		fi
		# shellcheck disable=SC2046 # a list of files
		"$common/check-fragment" "$config" $(fragments "$2")
	}
	# A name that a package has changed would be taken out without a word: no device nodes, no camera.
	for name in $keep; do
		if [ ! -e "$target/etc/init.d/$name" ]; then
			echo "post-build: no package has brought /etc/init.d/$name" >&2
			exit 1
		fi
	done
	check linux BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES
	check uboot BR2_TARGET_UBOOT_CONFIG_FRAGMENT_FILES
	check busybox BR2_PACKAGE_BUSYBOX_CONFIG_FRAGMENT_FILES
fi
