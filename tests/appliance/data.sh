#!/bin/sh
# The data partition on a loop device: grown once and for all, mended, and never formatted; the clock that is remembered.
# shellcheck disable=SC2016 # what stand-ins run is text here
# shellcheck source=rig
. "$TOP/tests/appliance/rig"

# A card of 64 MiB whose fourth partition has 16, with a picture on it; its device is DISK without the number.
card() { # NAME
	fresh "$1"
	rm -f "$ROOT/stubs/mount" "$ROOT/stubs/umount" "$ROOT/stubs/sync"
	truncate -s 64M "$ROOT/card.img"
	printf 'label: dos\nstart=2048,size=8192,type=c\nstart=10240,size=8192\nstart=18432,size=8192\nstart=26624,size=32768,type=83\n' |
		sfdisk --quiet "$ROOT/card.img" || return
	LOOP=$(losetup -f) && losetup "$LOOP" "$ROOT/card.img" || return
	# The kernel may still know those of somebody's before.
	partx -d "$LOOP" 2>/dev/null
	partx -a "$LOOP" || return
	[ -e "${LOOP}p4" ] || return
	export PASTCAM_DISK="${LOOP}p"
	mke2fs -q -t ext4 -b 1024 -E resize=262144 "${LOOP}p4" && mount -t ext4 "${LOOP}p4" "$ROOT/data" || return
	mkdir "$ROOT/data/captures"
	head -c 100000 /dev/urandom >"$ROOT/data/captures/a.jpg"
	sha256sum "$ROOT/data/captures/a.jpg" | cut -d ' ' -f 1 >"$ROOT/picture"
	umount "$ROOT/data"
}

drop_card() {
	umount "$ROOT/data" 2>/dev/null
	partx -d "$LOOP" 2>/dev/null
	losetup -d "$LOOP" 2>/dev/null
	unset PASTCAM_DISK
}

start() {
	script etc/init.d/S05data start
}

stop() {
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		umount "$ROOT/data" 2>/dev/null && return
		sleep 0.2
	done
}

size_kib() {
	df -k "$ROOT/data" | awk 'END { print $2 }'
}

grown() { # the file system grows in the background
	n=0
	while [ "$(size_kib)" -lt 40000 ] && [ "$n" -lt 300 ] && ! grep -q "^size:" "$RUN/notes" 2>/dev/null; do
		sleep 0.1
		n=$((n + 1))
	done
	echo "$(($(size_kib) >= 40000))"
}

# Growing a mounted file system is a right that containers often lack, even for root.
follows() { # WHAT
	if [ "$(grown)" = 0 ] && grep -q 'Permission denied to resize' "$ROOT/var/log/messages"; then
		skip "the kernel does not let this container grow a mounted file system"
		has "what fails is told" "$(notes)" "size: the data partition's file system keeps its size"
		rm -f "$RUN/notes.d/size" "$RUN/notes"
	else
		is "$1" "$(grown)" 1
	fi
}

picture() {
	[ "$(sha256sum "$ROOT/data/captures/a.jpg" | cut -d ' ' -f 1)" = "$(cat "$ROOT/picture")" ] && echo whole
}

if [ "$(id -u)" = 0 ] && command -v sfdisk >/dev/null && command -v partx >/dev/null && card grow >"$WORK/why" 2>&1; then
	is "the card before" "$(cat "/sys/class/block/${LOOP##*/}p4/size")" 32768
	start
	is "the partition ends with the card" "$(($(cat "/sys/class/block/${LOOP##*/}p4/size") >= 131072 - 26624 - 2048))" 1
	is "where it began" "$(cat "/sys/class/block/${LOOP##*/}p4/start")" 26624
	follows "the file system follows"
	is "the picture" "$(picture)" whole
	is "folders for all" "$(cd "$ROOT/data" && for d in captures cache update pastcam/ssh rauc; do [ -d "$d" ] || echo "$d"; done)" ""
	is "nothing to note" "$(notes)" ""
	stop
	before=$(dd if="$LOOP" bs=512 count=1 2>/dev/null | sha256sum)
	start
	is "the next start changes nothing" "$(dd if="$LOOP" bs=512 count=1 2>/dev/null | sha256sum)" "$before"
	is "and the picture is there" "$(picture)" whole
	stop

	# A dead superblock: e2fsck takes another one.
	dd if=/dev/zero of="${LOOP}p4" bs=1024 seek=1 count=1 2>/dev/null
	start
	is "a file system that can be mended is mended" "$(picture)" whole
	has "and told" "$(notes)" "data: the file system was damaged and has been mended"
	stop

	dd if=/dev/urandom of="${LOOP}p4" bs=1M count=48 2>/dev/null
	before=$(sha256sum "${LOOP}p4")
	start
	has "rubbish is left alone" "$(notes)" "nothing was erased"
	is "to the last byte" "$(sha256sum "${LOOP}p4")" "$before"
	is "pictures go to RAM" "$([ -d "$ROOT/data/captures" ] && [ -e "$RUN/data-in-ram" ] && echo yes)" yes
	stop
	drop_card

	# The power is cut between the two steps of growing.
	card cut >/dev/null 2>&1
	sh "$ROOT/usr/lib/pastcam/grow" partition "${LOOP}p4" >/dev/null 2>&1
	start
	follows "the second step is made up for"
	is "and the picture is there" "$(picture)" whole
	stop
	drop_card
else
	[ -z "${LOOP:-}" ] || drop_card
	skip "no loop device with partitions here, so nothing was grown: $(tail -n 1 "$WORK/why" 2>/dev/null)"
fi

fresh no-partition
export PASTCAM_DISK="$ROOT/dev/none"
start
unset PASTCAM_DISK
has "a card without the partition" "$(notes)" "data: the card has no fourth partition"
has "runs from RAM" "$(cat "$ROOT/calls")" "mount -t tmpfs"
is "no tool that formats is even called" "$(grep -rls 'mkfs\|mke2fs' "$OVERLAY")" ""

fresh clock
echo 4000000000 >"$SET/clock"
stub date <<'S'
case "$1" in
-s) echo "date $*" >>"$ROOT/calls" ;;
-r) echo 1700000000 ;;
*) echo 100 ;;
esac
S
script etc/init.d/S07clock start
is "the clock goes on where it stood" "$(grep date "$ROOT/calls")" "date -s @4000000000"
is "and says that nobody has set it" "$(ls "$RUN/clock-saved")" "$RUN/clock-saved"
: >"$ROOT/calls"
echo rubbish >"$SET/clock"
script etc/init.d/S07clock start
is "never before the image was made" "$(grep date "$ROOT/calls")" "date -s @1700000000"
stratum=16 script usr/lib/pastcam/ntp-told stratum
is "a server that nobody trusts is none" "$(ls "$RUN/clock-synced" 2>/dev/null)" ""
stratum=3 script usr/lib/pastcam/ntp-told stratum
is "one that is trusted makes the mark" "$(ls "$RUN/clock-synced")" "$RUN/clock-synced"
is "and the time is remembered" "$(cat "$SET/clock")" 100
script usr/lib/pastcam/ntp-told unsync
is "which goes when it goes" "$(ls "$RUN/clock-synced" 2>/dev/null)" ""

fresh network
stub ip <<'S'
echo "ip $*" >>"$ROOT/calls"
S
export interface=eth0 ip=192.168.1.20/24 router=192.168.1.1 dns="192.168.1.1 9.9.9.9"
script usr/lib/pastcam/dhcp-told static
is "a static address" "$(grep '^ip' "$ROOT/calls" | tr '\n' ',')" \
	"ip -4 addr flush dev eth0,ip addr add 192.168.1.20/24 broadcast + dev eth0,ip route replace default via 192.168.1.1 dev eth0,"
is "name servers" "$(tr '\n' ',' <"$ROOT/run/resolv.conf")" "nameserver 192.168.1.1,nameserver 9.9.9.9,"
: >"$ROOT/calls"
export ip=10.0.0.7 mask=16 router=10.0.0.1 dns=10.0.0.1 ntpsrv=10.0.0.2
script usr/lib/pastcam/dhcp-told bound
has "one by DHCP" "$(cat "$ROOT/calls")" "ip addr add 10.0.0.7/16 broadcast + dev eth0"
is "its name server takes the place of the old one" "$(cat "$ROOT/run/resolv.conf")" "nameserver 10.0.0.1"
is "its time server" "$(cat "$ROOT/run/ntp.eth0")" 10.0.0.2
finish
