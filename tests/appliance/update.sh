#!/bin/sh
# Updates: from the program's folder, the FAT partition and USB sticks; each file once; never over the way back.
# shellcheck disable=SC2016 # what stand-ins run is text here
# shellcheck source=rig
. "$TOP/tests/appliance/rig"

# A bundle is a text here: `good VERSION`, `unsigned`, or `broken`, which fails while it is written.
stage() { # NAME
	fresh "$1"
	export PASTCAM_REBOOT=reboot
	stub rauc <<-'S'
		for file; do :; done
		echo "rauc $1 $(basename "$file")" >>"$ROOT/calls"
		case "$1 $(cat "$file" 2>/dev/null)" in
		info\ unsigned*)
			echo "rauc-Message: Reading bundle" >&2
			echo "signature verification failed: self-signed certificate" >&2
			exit 1
			;;
		info\ *) echo "RAUC_MF_COMPATIBLE='pastcam-rpi3'"; echo "RAUC_MF_VERSION='$(sed 's/^[a-z]* //' "$file")'" ;;
		install\ broken*)
			echo "  0% Installing"
			# As RAUC 1.15 without D-Bus, whose stdout comes last into a pipe.
			echo "rauc-event-Message: 14:48:14.145: Installation ae7d6df0 failed: failed to write slot rootfs.1: no space" >&2
			echo "(rauc:22122): rauc-WARNING **: 14:48:14.167: failed to write slot rootfs.1: no space" >&2
			echo "Installing \`incoming.raucb' failed" >&2
			echo "100% Installing failed."
			echo "finished"
			exit 1
			;;
		esac
	S
	SEEN=$SET/updates-seen
}

installed() {
	grep -c 'rauc install' "$ROOT/calls"
}

reboots() {
	grep -c '^reboot' "$ROOT/calls"
}

look() {
	script usr/sbin/pastcam-update look
}

stage network
echo "good 0.2.0" >"$ROOT/data/update/incoming.raucb"
script usr/sbin/pastcam-update incoming
is "the verdict for the program" "$(cat "$ROOT/data/update/verdict")" "OK installed 0.2.0"
is "the slot to prove" "$(cat "$SET/trial")" "B 0.2.0"
is "verified before it was written" "$(grep ^rauc "$ROOT/calls" | tr '\n' ',')" "rauc info incoming.raucb,rauc install incoming.raucb,"
is "then the board restarts" "$(reboots) $(head -n 1 "$ROOT/pauses")" "1 5"
is "the file is gone" "$(find "$ROOT/data/update" "$ROOT/data/rauc" -name "*raucb*")" ""

stage network-refused
echo "unsigned" >"$ROOT/data/update/incoming.raucb"
script usr/sbin/pastcam-update incoming
is "unsigned" "$(cat "$ROOT/data/update/verdict")" "ERR not accepted: signature verification failed: self-signed certificate"
is "nothing was written, nothing restarts" "$(installed) $(reboots) $(ls "$SET/trial" 2>/dev/null)" "0 0 "
has "status says so" "$(notes)" "update: network: not accepted: signature verification failed"
echo "broken 1" >"$ROOT/data/update/incoming.raucb"
script usr/sbin/pastcam-update incoming
is "fails while it is written" "$(cat "$ROOT/data/update/verdict")" "ERR not installed: failed to write slot rootfs.1: no space"
is "no trial, no restart" "$(reboots) $(ls "$SET/trial" 2>/dev/null)" "0 "
ln -s /etc/shadow "$ROOT/data/update/incoming.raucb"
script usr/sbin/pastcam-update incoming
is "a link is no file" "$(cat "$ROOT/data/update/verdict")" "ERR not a plain file"
rm -f "$ROOT/data/update/verdict"
script usr/sbin/pastcam-update incoming
is "without a file there is no verdict" "$(ls "$ROOT/data/update")" ""
echo "good 0.3.0" >"$ROOT/data/update/incoming.raucb"
script usr/sbin/pastcam-update incoming
is "a good one takes the note back" "$(notes)" ""

stage link-as-verdict
echo "secret" >"$SET/wpa_supplicant.conf"
chmod 600 "$SET/wpa_supplicant.conf"
ln -s "$SET/wpa_supplicant.conf" "$ROOT/data/update/verdict.new"
echo "unsigned" >"$ROOT/data/update/incoming.raucb"
script usr/sbin/pastcam-update incoming
is "a link of the program's does not lead root's pen" "$(cat "$SET/wpa_supplicant.conf") $("$LOOK" stat -c %a "$SET/wpa_supplicant.conf")" "secret 600"
mkdir "$ROOT/data/update/incoming.raucb"
script usr/sbin/pastcam-update incoming
is "a folder is no file, and does not stay" "$(cat "$ROOT/data/update/verdict") $(ls "$ROOT/data/rauc")" "ERR not a plain file "

stage cut
echo "good 0.2.0" >"$ROOT/data/update/incoming.raucb"
stub rauc <<'S'
echo "rauc $1 $2" >>"$ROOT/calls"
[ "$1" != info ] || echo "RAUC_MF_VERSION='0.2.0'"
[ "$1" != install ] || kill -9 "$PPID"
S
script usr/sbin/pastcam-update incoming
is "on trial before the first byte" "$(cat "$SET/trial")" "B 0.2.0 unfinished"
echo 'kill -9 "$PPID"' >"$ROOT/later"
script usr/sbin/pastcam-update watch
is "cut short: the running one is first, and the next update may come" "$(grep -c 'mark-active' "$ROOT/calls") $(ls "$SET/trial" "$ROOT/data/rauc" 2>/dev/null)" "1 $ROOT/data/rauc:"
has "it is told" "$(notes)" "update: at the start: installing 0.2.0 was cut short"
echo "A 0.2.0" >"$SET/distrusted"
echo "good 0.3.0" >"$ROOT/data/update/incoming.raucb"
script usr/sbin/pastcam-update incoming
has "no update over the way back from a slot that failed" "$(cat "$ROOT/data/update/verdict")" "ERR the version that runs is still on trial"

stage on-trial
echo "A 0.2.0" >"$SET/trial"
echo "good 0.3.0" >"$ROOT/data/update/incoming.raucb"
script usr/sbin/pastcam-update incoming
is "on trial there are no updates" "$(cat "$ROOT/data/update/verdict") $(installed)" \
	"ERR the version that runs is still on trial; try again in a few minutes 0"
echo "good 0.3.0" >"$CARD/new.raucb"
look
is "nor from the card, which is looked at again later" "$(installed) $(cat "$SEEN" 2>/dev/null)" "0 "
is "the trial goes on" "$(cat "$SET/trial")" "A 0.2.0"

stage other-slot
sed -i 's/slot=A/slot=B/' "$ROOT/proc/cmdline"
echo "good 0.2.0" >"$ROOT/data/update/incoming.raucb"
script usr/sbin/pastcam-update incoming
is "from B to A" "$(cat "$SET/trial")" "A 0.2.0"

stage card
echo "good 0.2.0" >"$CARD/PASTCAM.RAUCB"
look
is "from the FAT partition" "$(installed) $(cat "$SET/last-update")" "1 OK FAT partition: installed 0.2.0"
rm "$SET/trial"
look
is "once" "$(installed)" 1
echo "unsigned" >"$CARD/a.raucb"
look
look
is "what was refused is not tried again" "$(grep -c 'rauc info' "$ROOT/calls") $(installed)" "2 1"
has "but told" "$(notes)" "update: FAT partition: not accepted"
mv "$CARD/a.raucb" "$CARD/b.raucb"
look
is "nor under another name" "$(grep -c 'rauc info' "$ROOT/calls")" 2
echo "good 0.3.0" >"$CARD/a.raucb"
look
is "other contents are another update" "$(installed)" 2
rm "$SET/trial"
i=0
while [ "$i" -lt 60 ]; do
	echo "hash$i" >>"$SEEN"
	i=$((i + 1))
done
echo "good 0.4.0" >"$CARD/a.raucb"
look
is "the list stays short" "$(wc -l <"$SEEN")" 50

stage died
# Remembered before it is tried: a board that dies of a file does not try it again.
echo "good 0.2.0" >"$CARD/a.raucb"
stub rauc <<'S'
echo "rauc $1" >>"$ROOT/calls"
[ "$1" = info ] || kill -9 "$PPID"
S
look
look
is "a file that kills is tried once" "$(grep -c 'rauc install' "$ROOT/calls")" 1

stage in-ram
: >"$RUN/data-in-ram"
echo "good 0.2.0" >"$CARD/a.raucb"
look
is "without a card to remember on, nothing is taken by itself" "$(installed)" 0

stage stick
cat >"$ROOT/proc/partitions" <<'P'
major minor  #blocks  name

 179        0    7761920 mmcblk0
 179        1      65536 mmcblk0p1
P
stub mount <<'S'
echo "mount $*" >>"$ROOT/calls"
mkdir -p "$ROOT/mnt/stick"
for where; do :; done
[ "$where" != "$ROOT/mnt/stick" ] || echo "good 0.5.0" >"$where/up.raucb"
S
stub umount <<'S'
echo "umount $*" >>"$ROOT/calls"
rm -f "$ROOT/mnt/stick/up.raucb"
S
# Plugged in after three looks.
cat >"$ROOT/later" <<'S'
n=$(wc -l <"$ROOT/pauses")
[ "$n" != 3 ] || echo "   8        1   15633408 sda1" >>"$ROOT/proc/partitions"
[ "$n" -lt 8 ] || kill -9 "$PPID"
S
script usr/sbin/pastcam-update watch
is "a stick that is plugged in" "$(grep -v '^rauc info\|^chown\|^sync' "$ROOT/calls" | tr '\n' ',')" \
	"mount -o ro,nosuid,nodev,noexec /dev/sda1 $ROOT/mnt/stick,rauc install up.raucb,umount $ROOT/mnt/stick,reboot ,"
is "is the origin of the update" "$(cat "$SET/last-update")" "OK USB stick: installed 0.5.0"

stage boots-from-usb
sed -i 's#/dev/mmcblk0p2#/dev/sda2#' "$ROOT/proc/cmdline"
echo "   8        1   15633408 sda1" >"$ROOT/proc/partitions"
echo '[ "$(wc -l <"$ROOT/pauses")" -lt 3 ] || kill -9 "$PPID"' >"$ROOT/later"
script usr/sbin/pastcam-update watch
is "the disk it runs from is no stick" "$(grep -c '^mount' "$ROOT/calls")" 0
finish
