#!/bin/sh
# Files from the FAT partition: good, bad, as Windows writes them, missing, empty.
# shellcheck disable=SC2016 # what stand-ins run is text here
# shellcheck source=rig
. "$TOP/tests/appliance/rig"

take() {
	script usr/sbin/pastcam-setup take
}

real_program() {
	ln -sf "$PASTCAM_BIN" "$ROOT/usr/bin/pastcam"
}

crlf() {
	printf '\357\273\277'
	sed 's/$/\r/'
}

GOOD_KEY="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBlubmVyIHdoYXQgYSBrZXkgdGhpcyBpcyBub3Qg me@pc"

fresh good
real_program
echo '{"camera": {"width": 640, "height": 480}}' | crlf >"$CARD/CONFIG.JSON"
printf 'country=DE\nnetwork={\n  ssid="barn"\n  psk="correct horse"\n}\nnetwork={\nssid="open"\nkey_mgmt=NONE\n}' | crlf >"$CARD/wpa_supplicant.conf.txt"
echo "$GOOD_KEY" | crlf >"$CARD/authorized_keys.txt"
printf 'gate-cam' >"$CARD/HostName"
echo Europe/Berlin | crlf >"$CARD/timezone"
printf 'address = 192.168.1.20/24\ngateway=192.168.1.1\ndns=192.168.1.1, 9.9.9.9\n\n# a remark\nntp=pool.ntp.org' | crlf >"$CARD/Network.TXT"
take
is "nothing to note" "$(notes)" ""
is "config.json without BOM and CR" "$(cat "$SET/config.json")" '{"camera": {"width": 640, "height": 480}}'
is "its mode" "$("$LOOK" stat -c %a "$SET/config.json")" 640
is "wireless networks" "$(grep -c ssid "$SET/wpa_supplicant.conf")" 2
is "its mode, for the passwords" "$("$LOOK" stat -c %a "$SET/wpa_supplicant.conf")" 600
is "the key" "$(cat "$SET/ssh/authorized_keys")" "$GOOD_KEY"
is "the key's mode" "$("$LOOK" stat -c %a "$SET/ssh/authorized_keys")" 600
is "host name" "$(cat "$SET/hostname")" gate-cam
is "time zone" "$(cat "$SET/timezone")" Europe/Berlin
is "address" "$(head -n 1 "$SET/network.txt")" "address = 192.168.1.20/24"
lacks "no CR anywhere" "$(cat "$SET"/* 2>/dev/null | od -An -c)" '\r'
before=$("$LOOK" stat -c %i "$SET/hostname")
take
is "what is in force already is not written again" "$("$LOOK" stat -c %i "$SET/hostname")" "$before"

rm "$CARD"/*
take
is "a missing file changes nothing" "$(cat "$SET/hostname") $(cat "$SET/timezone")" "gate-cam Europe/Berlin"
: >"$CARD/hostname"
printf '\r\n \r\n' >"$CARD/authorized_keys"
take
is "an empty one takes the setting back" "$(ls "$SET/hostname" "$SET/ssh/authorized_keys" 2>/dev/null)" ""

# Each bad file leaves the one before in force and says why.
bad() { # NAME CONTENTS REASON
	printf '%b' "$2" >"$CARD/$1"
	take
	has "the reason why $1 is bad ($2)" "$(notes)" "$3"
	lacks "no contents of wireless files in notes" "$(notes)" secret
	rm "$CARD/$1"
	take
	is "the note goes with the file $1" "$(notes)" ""
}
for name in config.json wpa_supplicant.conf hostname timezone network.txt; do cp "$SET/$name" "$ROOT/before.$name" 2>/dev/null; done
echo gate-cam >"$SET/hostname"
bad config.json '{"camera": {"widht": 640}}' 'config.json: not taken over: camera.widht: no such key; did you mean camera.width?; the one before stays in force'
bad config.json '{"camera": ' 'config.json: not taken over: it is not JSON'
bad config.json '\377\376{\0}\0' 'saved as UTF-16; save it as UTF-8'
head -c 70000 /dev/zero | tr '\0' ' ' >"$CARD/config.json"
take
has "a file that is too large" "$(notes)" "larger than 64 KiB"
rm "$CARD/config.json"
bad wpa_supplicant.conf 'network={\nssid="a"\npsk="secret"\n}\n' 'line 3: a password in quotes has 8 to 63 characters'
bad wpa_supplicant.conf 'network={\nssid="a"\npsk="secret long\n}\n' 'line 3: a quote is not closed'
bad wpa_supplicant.conf 'network={\nssid="a"\npsk=secretsecret\n}\n' 'line 3: a password stands in quotes'
bad wpa_supplicant.conf 'network={\npsk="secretsecret"\n}\n' 'line 3: a network without ssid='
bad wpa_supplicant.conf 'network={\nssid="a"\n' 'a block is not closed'
bad wpa_supplicant.conf 'ssid my network\n' 'line 1: a setting is NAME=VALUE'
bad wpa_supplicant.conf 'country=de\nnetwork={\nssid="a"\n}\n' 'line 1: country= takes two capital letters'
bad wpa_supplicant.conf 'country=DE\n' 'there is no network={ ... } in it'
printf 'network={ # home\n\tssid="my = "barn" #1" # its name\n psk="c2VjcmV0IHdvcmQ==" # secret\n}\n' >"$CARD/wpa_supplicant.conf"
take
is "quotes, an equals sign and remarks in wireless networks" "$(notes) $(grep -c barn "$SET/wpa_supplicant.conf")" " 1"
rm "$CARD/wpa_supplicant.conf"
cp "$ROOT/before.wpa_supplicant.conf" "$SET/wpa_supplicant.conf"
bad authorized_keys '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n' 'this is a private key'
bad authorized_keys 'hello\n' 'line 1 is no public key'
bad hostname 'my_cam\n' "a host name is made of letters, digits and hyphens, not 'my_cam'"
bad hostname '-cam\n' 'a host name is made of'
bad hostname "$(head -c 64 /dev/zero | tr '\0' a)" 'at most 63 characters'
bad hostname 'cam$(reboot)\n' 'a host name is made of'
bad timezone 'Mars/Olympus\n' 'there is no time zone Mars/Olympus'
bad timezone '../../etc/passwd\n' 'a time zone is a name like Europe/Berlin'
bad network.txt 'address=192.168.1.20\n' 'line 1: address= is like 192.168.1.20/24'
bad network.txt 'address=192.168.1.300/24\n' 'line 1: address= is like'
bad network.txt 'gateway=192.168.1.1\n' 'gateway= needs address='
bad network.txt 'dns=router\n' 'line 1: dns= is one or more addresses'
bad network.txt 'adress=192.168.1.20/24\n' 'line 1: known here:'
bad network.txt 'address=192.168.1.20/24=1\n' 'line 1: address= is like 192.168.1.20/24'
bad network.txt 'ntp=a=$(reboot)\n' 'line 1: ntp= is one or more names'
bad network.txt 'ntp=$(reboot)\n' 'line 1: ntp= is one or more names'
for name in config.json wpa_supplicant.conf timezone network.txt; do
	is "$name stayed in force" "$(cmp "$SET/$name" "$ROOT/before.$name" 2>&1)" ""
done
is "nothing of it ran" "$(grep reboot "$ROOT/calls")" ""
is "no draft is left" "$(find "$RUN" -name "fresh*")" ""

fresh force
real_program
echo shed >"$SET/hostname"
echo Europe/Berlin >"$SET/timezone"
script usr/sbin/pastcam-setup boot
is "the FAT partition is mounted read-only" "$(grep '^mount' "$ROOT/calls")" "mount -t vfat -o ro,nosuid,nodev,noexec,umask=077 /dev/mmcblk0p1 $CARD"
has "the host name is set" "$(cat "$ROOT/calls")" "hostname shed"
is "the time zone is set" "$(readlink "$ROOT/run/localtime")" /usr/share/zoneinfo/Europe/Berlin
printf 'barn \nsecond line\n' >"$CARD/hostname"
printf 'Europe/Berlin  \n\n' >"$CARD/timezone"
: >"$ROOT/calls"
script usr/sbin/pastcam-setup boot
is "only the word that was checked, without blanks and lines behind it" "$(grep -A 1 hostname "$ROOT/calls") $(readlink "$ROOT/run/localtime")" \
	"hostname barn /usr/share/zoneinfo/Europe/Berlin"
program <<'S'
exec sleep 100
S
sed -i 's/timeout 60/timeout 1/' "$ROOT/usr/lib/pastcam/checks"
echo '{}' >"$CARD/config.json"
script usr/sbin/pastcam-setup boot
has "a check that hangs does not stop the boot" "$(notes)" "config.json: not taken over: the program cannot check it"
stub mount <<'S'
exit 1
S
echo rubbish >"$CARD/config.json"
script usr/sbin/pastcam-setup boot
has "a partition that cannot be mounted is told" "$(notes)" "card: the FAT partition /dev/mmcblk0p1 cannot be mounted"

fresh refused
real_program
echo '{"network": {"trigger_port": 9000}}' >"$SET/config.json"
echo '{"network": {"trigger_port": 9001}}' >"$CARD/config.json"
cp "$CARD/config.json" "$SET/config.json.refused"
echo 0.1.0 >"$SET/config.json.refused.by"
echo "port 9001: in use" >"$SET/config.json.refused.why"
take
has "what the program refused to start with stays out" "$(notes)" "the program did not start with it: port 9001: in use; the one before stays in force"
has "the one before stays" "$(cat "$SET/config.json")" 9000
echo 0.2.0 >"$ROOT/etc/pastcam/version"
take
has "another version may try it again" "$(cat "$SET/config.json")" 9001
is "and there is nothing to note" "$(notes)" ""
finish
