#!/bin/sh
# The interfaces: each is brought up when it appears, also when it comes back; wireless networks that the daemon refuses.
# shellcheck disable=SC2016 # what stand-ins run is text here
# shellcheck source=rig
. "$TOP/tests/appliance/rig"

stage() { # NAME
	fresh "$1"
	stub ip <<-'S'
		echo "ip $*" >>"$ROOT/calls"
	S
	stub udhcpc <<-'S'
		echo "udhcpc $3" >>"$ROOT/calls"
	S
	stub pidof <<-'S'
		exit 1
	S
	# Takes a file with the word good.
	stub wpa_supplicant <<-'S'
		echo "wpa_supplicant ${5##*/}" >>"$ROOT/calls"
		grep -q good "$5" && exit
		echo "Line 3: Invalid passphrase length 4 (expected: 8..63) 'secret'."
		echo "Failed to read or parse configuration '$5'."
		exit 255
	S
}

plug() { # INTERFACE CARRIER
	mkdir -p "$ROOT/sys/class/net/$1/device"
	echo "$2" >"$ROOT/sys/class/net/$1/carrier"
}

rounds() { # N: so many looks, with what `events` does before each
	rm -f "$ROOT/pauses"
	cat >"$ROOT/later" <<-S
		n=\$(wc -l <"\$ROOT/pauses")
		[ ! -e "\$ROOT/events" ] || . "\$ROOT/events"
		[ "\$n" -lt $1 ] || kill -9 "\$PPID"
	S
	script usr/sbin/pastcam-network
	# What runs behind pipes.
	sleep 0.3
}

asked() {
	grep -c 'udhcpc eth0' "$ROOT/calls"
}

stage cable
plug eth0 0
echo '[ "$n" != 2 ] || echo 1 >"$ROOT/sys/class/net/eth0/carrier"' >"$ROOT/events"
rounds 4
is "one question for an address, once the cable is in" "$(grep -c 'ip link set eth0 up' "$ROOT/calls") $(asked)" "1 1"

stage back
plug eth0 1
cat >"$ROOT/events" <<'S'
[ "$n" != 2 ] || mv "$ROOT/sys/class/net/eth0" "$ROOT/gone"
[ "$n" != 4 ] || mv "$ROOT/gone" "$ROOT/sys/class/net/eth0"
S
rounds 6
is "an interface that went and came back is brought up again" "$(grep -c 'ip link set eth0 up' "$ROOT/calls") $(asked)" "2 2"

stage wireless
plug wlan0 0
mkdir "$ROOT/sys/class/net/wlan0/wireless"
echo good >"$SET/wpa_supplicant.conf"
rounds 1
is "networks that the daemon took are remembered" "$(cat "$SET/wpa_supplicant.conf.proven") $("$LOOK" stat -c %a "$SET/wpa_supplicant.conf.proven")" "good 600"
is "and nothing is noted" "$(notes)" ""
echo bad >"$SET/wpa_supplicant.conf"
: >"$ROOT/calls"
rounds 1
is "those it refuses are replaced by them" "$(grep wpa "$ROOT/calls" | tr '\n' ',')" "wpa_supplicant wpa_supplicant.conf,wpa_supplicant wpa_supplicant.conf.proven,"
has "which is told" "$(notes)" "wpa_supplicant.conf: wpa_supplicant does not start with it: Failed to read"
has "with what is in force" "$(notes)" "the last one that it took is in force"
lacks "and without the password" "$(notes)" secret
: >"$CARD/wpa_supplicant.conf"
script usr/sbin/pastcam-setup take
is "an empty file takes both back" "$(ls "$SET")" "ssh"

stage fixed
printf 'address=192.168.1.20/24\n' >"$SET/network.txt"
plug wlan0 1
mkdir "$ROOT/sys/class/net/wlan0/wireless"
echo good >"$SET/wpa_supplicant.conf"
rounds 1
has "an address for a cable is not the radio's" "$(cat "$ROOT/calls")" "udhcpc wlan0"
has "which is told, with the cure" "$(notes)" "interface=wlan0 in network.txt gives it the address"
plug eth0 1
plug eth1 1
rounds 1
has "the cable has it" "$(cat "$ROOT/calls")" "ip addr add 192.168.1.20/24 broadcast + dev eth0"
lacks "and only one cable" "$(grep 'addr add' "$ROOT/calls")" "dev eth1"
has "the other asks" "$(cat "$ROOT/calls")" "udhcpc eth1"
is "nothing is left to tell" "$(notes)" ""
: >"$ROOT/calls"
rm -r "$ROOT/sys/class/net/eth0"
rounds 1
has "when that one has gone the other one takes it" "$(cat "$ROOT/calls")" "ip addr add 192.168.1.20/24 broadcast + dev eth1"
printf 'address=192.168.1.20/24\ninterface=wlan0\n' >"$SET/network.txt"
: >"$ROOT/calls"
rounds 1
has "by its name the radio has it" "$(cat "$ROOT/calls")" "ip addr add 192.168.1.20/24 broadcast + dev wlan0"

stage name-servers
mkdir -p "$ROOT/run"
export interface=eth0 ip=10.0.0.5 mask=24 dns="10.0.0.1"
script usr/lib/pastcam/dhcp-told bound
is "name servers by DHCP" "$(cat "$ROOT/run/resolv.conf")" "nameserver 10.0.0.1"
printf 'dns=9.9.9.9, 1.1.1.1\n' >"$SET/network.txt"
script usr/lib/pastcam/dhcp-told bound
is "one's own go before them" "$(cat "$ROOT/run/resolv.conf")" "nameserver 9.9.9.9
nameserver 1.1.1.1"
unset ip mask dns

fresh link-local
stub ip <<'S'
echo "ip $*" >>"$ROOT/calls"
S
stub zcip <<'S'
echo "zcip $*" >>"$ROOT/calls"
exec sleep 60
S
export interface=eth0
script usr/lib/pastcam/dhcp-told leasefail
script usr/lib/pastcam/dhcp-told deconfig
is "a new beginning ends the link-local address" "$(ls "$RUN")" ""
script usr/lib/pastcam/dhcp-told leasefail
sleep 0.3
is "so that it is had again" "$(grep -c '^zcip' "$ROOT/calls")" 2
kill "$(cat "$RUN/zcip.eth0")"

fresh time-servers
stub start-stop-daemon <<'S'
echo "$*" >>"$ROOT/calls"
S
printf '  ntp = a.example, b.example\n' >"$SET/network.txt"
sed "s#\"/usr/sbin/\$DAEMON\"#\"\$DAEMON\"#; /^\\[ -x/d" "$OVERLAY/etc/init.d/S45ntpd" >"$ROOT/etc/init.d/S45ntpd"
script etc/init.d/S45ntpd start
has "time servers with blanks and commas" "$(cat "$ROOT/calls")" "-p a.example -p b.example"
finish
