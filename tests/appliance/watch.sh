#!/bin/sh
# The judgement of a start: proven configuration, slots on trial and good ones, the camera that was broken before.
# shellcheck disable=SC2016 # what stand-ins run is text here
# shellcheck source=rig
. "$TOP/tests/appliance/rig"

# The program answers what `answer` holds; `later` runs with each pause and ends the watch at the uptime in `until`.
watch_until() { # UPTIME
	echo "$1" >"$ROOT/until"
	cat >"$ROOT/later" <<-'S'
		read -r up _ <"$ROOT/uptime"
		[ ! -e "$ROOT/events" ] || . "$ROOT/events"
		[ "${up%%.*}" -lt "$(cat "$ROOT/until")" ] || kill -HUP "$PPID"
	S
	script usr/sbin/pastcam-watch
}

answer() {
	echo "$*" >"$ROOT/answer"
}

stage() { # NAME
	fresh "$1"
	export PASTCAM_REBOOT="reboot now"
	program <<-'S'
		[ "$1" = --version ] && echo "pastcam 0.1.0" && exit
		echo "$*" >>"$ROOT/asked"
		cat "$ROOT/answer"
	S
	answer "OK state=RUNNING mode=DAY"
	# It has a test of its own.
	printf '#!/bin/sh\n' >"$ROOT/usr/lib/pastcam/report"
}

marked() {
	grep -c 'rauc status mark-good' "$ROOT/calls"
}

reboots() {
	grep -c '^reboot' "$ROOT/calls"
}

stage out-of-tries
echo "console=ttyS1 root=/dev/mmcblk0p2 ro rauc.slot=A pastcam.rounds=2" >"$ROOT/proc/cmdline"
watch_until 110
has "status tells of it" "$(notes)" "start: neither slot had a try left, 2 times; both were given new ones"
has "the boot loader counts anew" "$(cat "$ROOT/calls")" "fw_setenv BOOT_ROUNDS"

stage ordinary
echo '{"a": 1}' >"$SET/config.json"
echo 2 >"$SET/unproven-starts"
echo 0.1.0 >"$SET/restarted-for-camera"
watch_until 130
is "a slot that was good is marked at once" "$(marked)" 1
is "there is no count to take back" "$(grep -c fw_setenv "$ROOT/calls")" 0
is "nothing is proven in half a minute" "$(ls "$SET/config.json.proven" 2>/dev/null)" ""
is "the question" "$(head -n 1 "$ROOT/asked")" "--defaults $RUN/defaults.json --config $SET/config.json send here status"
watch_until 250
is "a minute of answers proves the configuration" "$(cat "$SET/config.json.proven")" '{"a": 1}'
has "and frames the camera" "$(ls "$SET")" camera-worked
has "ten minutes are not over" "$(ls "$SET")" restarted-for-camera
watch_until 1200
is "ten minutes give everything back" "$(ls "$SET/restarted-for-camera" "$SET/unproven-starts" 2>/dev/null)" ""
has "then it asks once a minute" "$(tail -n 3 "$ROOT/pauses" | tr '\n' ' ')" "60 60"
watch_until 5000
is "the clock is saved every hour" "$(ls "$SET/clock")" "$SET/clock"

stage silent
answer ""
watch_until 2000
is "a good slot is never left, whatever happens" "$(reboots)" 0
is "nothing is proven" "$(ls "$SET/config.json.proven" "$SET/camera-worked" 2>/dev/null)" ""

stage trial-good
echo "A 0.2.0" >"$SET/trial"
: >"$SET/camera-worked"
watch_until 130
is "not yet" "$(marked)" 0
has "status says that it is on trial" "$(notes)" "update: version 0.2.0 is on trial in slot A"
watch_until 250
is "good after a minute" "$(marked) $(reboots)" "1 0"
is "the trial is over" "$(ls "$SET/trial" 2>/dev/null)" ""
is "the verdict" "$(cat "$SET/last-update")" "version 0.2.0 is good in slot A"
is "and no note is left" "$(notes)" ""

stage trial-silent
echo "A 0.2.0" >"$SET/trial"
answer ""
echo '[ ! -s "$ROOT/calls" ] || ! grep -q "^reboot" "$ROOT/calls" || kill -HUP "$PPID"' >"$ROOT/events"
watch_until 5000
is "the board restarts, on trial still" "$(marked) $(reboots) $(cat "$SET/trial")" "0 1 A 0.2.0"
read -r up _ <"$ROOT/uptime"
is "after ten minutes" "$((${up%%.*} >= 600 && ${up%%.*} < 620))" 1

stage trial-no-frames
echo "A 0.2.0" >"$SET/trial"
: >"$SET/camera-worked"
answer "OK state=LOST mode=DAY"
cp "$WORK/trial-silent/events" "$ROOT/events"
watch_until 5000
is "the camera worked before: an update that breaks it goes back" "$(marked) $(reboots)" "0 1"

stage trial-broken-before
echo "A 0.2.0" >"$SET/trial"
answer "OK state=STARTING mode=DAY"
# Between two lives of the program nobody answers.
echo 'case "${up%%.*}" in *[05]) [ $((${up%%.*} / 20 % 2)) = 0 ] && echo "" >"$ROOT/answer" || echo "OK state=STARTING" >"$ROOT/answer" ;; esac' >"$ROOT/events"
watch_until 400
is "a camera that was broken before may stay broken" "$(marked) $(reboots)" "1 0"

stage trial-denied
echo "A 0.2.0" >"$SET/trial"
answer "ERR denied this address is not in network.allow"
watch_until 300
is "who keeps out this very machine is alive all the same" "$(marked) $(reboots)" "1 0"

stage fell-back
echo "B 0.2.0" >"$SET/trial"
watch_until 110
is "the slot before is good" "$(marked)" 1
has "and status says what happened" "$(notes)" "update: version 0.2.0 did not prove itself in slot B; slot A runs again"
is "which the report keeps" "$(cat "$SET/last-update")" "version 0.2.0 did not prove itself in slot B; slot A runs again"
is "the trial is over" "$(ls "$SET/trial" 2>/dev/null)" ""
is "the slot before is the first one again" "$(grep -c 'rauc status mark-active booted' "$ROOT/calls")" 1
# Three cut starts later U-Boot may come back to the slot that failed.
sed -i 's/slot=A/slot=B/' "$ROOT/proc/cmdline"
rm -rf "$RUN"
: >"$ROOT/calls"
answer ""
cp "$WORK/trial-silent/events" "$ROOT/events"
watch_until 5000
is "a slot that failed once is not good by itself" "$(marked) $(reboots)" "0 1"
rm "$ROOT/events"
echo "100.00 90.00" >"$ROOT/uptime"
answer "OK state=RUNNING"
watch_until 250
is "but when it has proven itself after all" "$(marked) $(ls "$SET/distrusted" 2>/dev/null)" "1 "

stage unfinished
echo "B 0.2.0 unfinished" >"$SET/trial"
watch_until 110
is "what was never installed is no failure of it" "$(notes) $(cat "$SET/trial")" " B 0.2.0 unfinished"

stage takes-no-writes
echo "A 0.2.0" >"$SET/trial"
stub rm <<'S'
case "$*" in *trial*) exit 1 ;; esac
exec "$TOOLS/rm" "$@"
S
watch_until 1500
is "a mark that cannot be removed is not taken back again and again" "$(marked)" 1

fresh report
echo "barn: something" >"$RUN/notes"
stub ip <<'S'
[ "$5" = global ] && echo "2: eth0    inet 192.168.1.20/24 brd 192.168.1.255 scope global eth0"
exit 0
S
script usr/lib/pastcam/report
text=$(tr -d '\r' <"$CARD/PASTCAM-REPORT.TXT")
for part in "version:     0.1.0" "slot:        A" "address:     eth0 192.168.1.20/24" "host name:   pastcam.local" "ssh:         off" \
	"data:        on the card" "last update: none" "- barn: something" "(the clock is not set)"; do
	has "the report" "$text" "$part"
done
is "with Windows' line ends" "$(grep -c "$(printf '\r')\$" "$CARD/PASTCAM-REPORT.TXT")" "$(wc -l <"$CARD/PASTCAM-REPORT.TXT")"
before=$("$LOOK" stat -c %i "$CARD/PASTCAM-REPORT.TXT")
echo "500.00 1.00" >"$ROOT/uptime"
script usr/lib/pastcam/report
is "nothing new is not written" "$("$LOOK" stat -c %i "$CARD/PASTCAM-REPORT.TXT")" "$before"
: >"$RUN/clock-synced"
echo "OK network: installed 0.2.0" >"$SET/last-update"
script usr/lib/pastcam/report
has "news are" "$(cat "$CARD/PASTCAM-REPORT.TXT")" "last update: OK network: installed 0.2.0"
echo "/dev/mmcblk0p1 $CARD vfat ro 0 0" >"$ROOT/proc/mounts"
echo x >>"$RUN/notes"
script usr/lib/pastcam/report
cat >"$ROOT/stubs/mv" <<'S'
#!/bin/sh
exit 1
S
chmod +x "$ROOT/stubs/mv"
echo y >>"$RUN/notes"
: >"$ROOT/calls"
script usr/lib/pastcam/report
script usr/lib/pastcam/report
is "one that cannot be written is tried once" "$(grep -c 'remount,rw' "$ROOT/calls") $(ls "$CARD")" "1 PASTCAM-REPORT.TXT"
rm "$ROOT/stubs/mv"
echo "z" >>"$RUN/notes"
: >"$ROOT/calls"
script usr/lib/pastcam/report
is "writable only for that moment" "$(grep '^mount' "$ROOT/calls" | tr '\n' ',')" "mount -o remount,rw $CARD,mount -o remount,ro $CARD,"
finish
