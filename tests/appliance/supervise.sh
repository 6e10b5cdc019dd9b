#!/bin/sh
# The supervisor: exit codes, pauses, the last good configuration, one restart of the board for a lost camera.
# shellcheck disable=SC2016 # what stand-ins run is text here
# shellcheck source=rig
. "$TOP/tests/appliance/rig"

# The program lives as the next line of `lives` says: SECONDS CODE [LAST WORDS]. After the last one the supervisor is ended.
play() { # LIVES…
	: >"$ROOT/lives"
	for life; do echo "$life" >>"$ROOT/lives"; done
	rm -f "$ROOT/pauses" "$ROOT/started"
	# The one that ended the supervisor before may still be on its way out.
	[ -n "${left_over:-}" ] || rm -f "$RUN/pastcam.pid"
	program <<-'S'
		[ "$1" = --version ] && echo "pastcam 0.1.0" && exit
		echo "$*" >>"$ROOT/started"
		# As this life found it.
		[ ! -e "$ROOT/dev/watchdog" ] || cp "$ROOT/dev/watchdog" "$ROOT/dev/watchdog.before"
		[ ! -e "$ROOT/data/pastcam/config.json" ] || cat "$ROOT/data/pastcam/config.json" >>"$ROOT/started"
		if ! read -r lasted code words <"$ROOT/lives"; then
			kill -HUP "$PPID"
			exit 0
		fi
		sed -i 1d "$ROOT/lives"
		read -r up _ <"$ROOT/uptime"
		echo "$((${up%%.*} + lasted)).00 0.00" >"$ROOT/uptime"
		[ -z "$words" ] || echo "pastcam: $words" >&2
		# Its words have to be in the log before its end is dealt with.
		[ -z "$words" ] || for _ in 1 2 3 4 5 6 7 8 9 10; do grep -q "$words" "$ROOT/var/log/messages" 2>/dev/null && break; sleep 0.1; done
		exit "$code"
	S
	script usr/sbin/pastcam-supervise
}

pauses() {
	tr '\n' ' ' <"$ROOT/pauses"
}

fresh crash
: >"$ROOT/dev/watchdog"
play "0 139" "0 101" "0 134" "0 139" "0 139" "0 139" "0 139" "0 139"
is "pauses grow to a minute" "$(pauses)" "2 4 8 16 32 60 60 60 "
is "the defaults of the image are given" "$(head -n 1 "$ROOT/started")" "--defaults $RUN/defaults.json"
is "a crash leaves no watchdog that nobody feeds" "$(cat "$ROOT/dev/watchdog")" V
play "0 139" "0 139" "400 139" "0 139"
is "a long life begins again with short ones" "$(pauses)" "2 4 2 4 "

fresh memory
play "100 42" "100 42" "100 42"
is "42 starts again at once" "$(pauses)" "0 0 0 "
play "5 42" "5 42" "5 42"
is "but not for ever without a pause" "$(pauses)" "2 4 8 "

fresh stopped
# Whoever wants it back takes the mark away, as S60pastcam does.
echo '[ "$(wc -l <"$ROOT/pauses")" -lt 3 ] || rm -f "$ROOT/run/pastcam/stopped"' >"$ROOT/later"
play "5 0"
is "stopped as asked, it waits" "$(pauses)" "2 2 2 "
is "and starts when asked" "$(wc -l <"$ROOT/started")" 2

fresh fallback
echo '{"a": 1}' >"$SET/config.json.proven"
echo '{"a": 2}' >"$SET/config.json"
play "1 1 start the port 9999: in use" "1 1 start the port 9999: in use" "400 139"
is "the last good configuration is in force" "$(cat "$SET/config.json")" '{"a": 1}'
is "the other one is put aside" "$(cat "$SET/config.json.refused")" '{"a": 2}'
is "with the version that refused it" "$(cat "$SET/config.json.refused.by")" 0.1.0
has "and its reason" "$(notes)" "config.json: the program did not start with it: start the port 9999: in use; the last one that ran is in force"
has "the reason is kept for the next start" "$(cat "$SET/config.json.refused.why")" "start the port 9999: in use"
is "what ran" "$(grep -c '"a": 2' "$ROOT/started") $(grep -c '"a": 1' "$ROOT/started")" "2 2"
has "what the program says is in the log" "$(cat "$ROOT/var/log/messages")" "pastcam: pastcam: start the port"

fresh once
echo '{"a": 2}' >"$SET/config.json"
play "1 1 busy" "400 139" "1 1 busy"
is "a failure now and then is no reason" "$(cat "$SET/config.json")" '{"a": 2}'

fresh nothing-proven
echo '{"a": 2}' >"$SET/config.json"
play "1 1 why" "1 1 why"
is "without a proven one the image's own settings run" "$(ls "$SET/config.json" 2>/dev/null) $(tail -n 1 "$ROOT/started")" " --defaults $RUN/defaults.json"
has "and that is told" "$(notes)" "the image's own settings are in force"

fresh crashes
echo '{"a": 1}' >"$SET/config.json.proven"
echo '{"a": 2}' >"$SET/config.json"
play "5 139" "5 42" "5 139" "5 139" "90 139" "5 42" "5 42" "5 42" "5 42"
is "a crash now and then is no reason" "$(cat "$SET/config.json")" '{"a": 2}'
play "5 42" "5 42" "5 42" "5 42" "5 139"
is "five short lives with settings that never ran are" "$(cat "$SET/config.json")" '{"a": 1}'
has "which is told" "$(notes)" "it ended 5 times in a row, the last time with code 139; the last one that ran is in force"
play "5 42" "5 42" "5 42" "5 42" "5 139" "5 139"
is "those that ran stay" "$(cat "$SET/config.json") $(cat "$SET/config.json.refused")" '{"a": 1} {"a": 2}'

fresh armed
: >"$ROOT/dev/watchdog"
play
is "what U-Boot started is disarmed before the program may leave it alone" "$(cat "$ROOT/dev/watchdog.before")" V

fresh proven-fails
echo '{"a": 1}' | tee "$SET/config.json" >"$SET/config.json.proven"
play "1 1 x" "1 1 x" "1 1 x" "1 1 x"
is "a proven one is tried on with pauses" "$(pauses)" "2 4 8 16 "
is "and stays in force" "$(cat "$SET/config.json")" '{"a": 1}'

fresh readonly
echo '{"a": 2}' >"$SET/config.json"
echo '{"a": 1}' >"$SET/config.json.proven"
# `keep` cannot write: its draft is a folder.
mkdir "$SET/config.json.refused.new"
play "1 1 x" "1 1 x" "400 139"
has "a card that takes no writes: the proven one is named instead" "$(tail -n 2 "$ROOT/started")" "--config $SET/config.json.proven"

fresh camera
PASTCAM_REBOOT=reboot
export PASTCAM_REBOOT
: >"$SET/camera-worked"
play "30 43" "30 43" "30 43" "30 43" "30 43"
is "no restart of the board before the sixth loss" "$(grep -c reboot "$ROOT/calls")" 0
is "pauses grow" "$(pauses)" "2 4 8 16 32 "
has "it is told" "$(notes)" "camera: lost 5 times in a row"
is "the next update is not to blame for it" "$(ls "$SET/camera-worked" 2>/dev/null)" ""
play "30 43" "30 43" "30 43" "30 43" "30 43" "30 43" "30 43"
is "one restart of the board at the sixth" "$(grep -c reboot "$ROOT/calls")" 1
play "30 43" "30 43" "30 43" "30 43" "30 43" "30 43" "30 43" "30 43"
is "and never a second one" "$(grep -c reboot "$ROOT/calls")" 1
has "the note does not count for ever, for each number is a write to the FAT partition" "$(notes)" "camera: lost more than 6 times in a row"
play "30 43" "30 43" "30 43" "30 43" "30 43" "400 43" "30 43" "30 43" "30 43" "30 43"
rm "$SET/restarted-for-camera"
is "a long life in between counts anew" "$(grep -c reboot "$ROOT/calls")" 1
: >"$RUN/data-in-ram"
play "30 43" "30 43" "30 43" "30 43" "30 43" "30 43" "30 43"
is "nor where it could not be remembered" "$(grep -c reboot "$ROOT/calls")" 1

fresh trial
echo "A 0.2.0" >"$SET/trial"
: >"$SET/camera-worked"
play "30 43" "30 43" "30 43" "30 43"
has "on trial the update stays to blame" "$(ls "$SET")" camera-worked

fresh usage
play "0 64" "0 64"
is "64 is tried on with pauses" "$(pauses)" "2 4 "

fresh left-over
left_over=1
program <<'S'
trap 'exit 0' TERM
while :; do sleep 0.1; done
S
# The next one is written over that file while this one runs.
mv "$ROOT/usr/bin/pastcam" "$ROOT/pastcam"
"$ROOT/pastcam" &
old=$!
sleep 300 &
other=$!
echo "$other" >"$RUN/pastcam.pid"
play "0 139"
is "a process that has its old number is left alone" "$(kill -0 "$other" && echo runs)" runs
kill "$other"
echo "$old" >"$RUN/pastcam.pid"
play "0 139"
wait "$old"
is "a program that outlived its supervisor is ended first" "$? $(head -n 1 "$ROOT/pauses")" "0 5"

left_over=

fresh defaults
: >"$ROOT/dev/watchdog"
has "the watchdog where there is one" "$(sh "$ROOT/usr/lib/pastcam/defaults")" '"watchdog_device": "/dev/watchdog"'
: >"$RUN/no-watchdog"
has "not after starts that did not last" "$(sh "$ROOT/usr/lib/pastcam/defaults")" '"watchdog_device": ""'
has "the camera, whatever the board" "$(sh "$ROOT/usr/lib/pastcam/defaults")" '"source": "camera"'
printf 'BOARD=qemu\nSOURCE=pattern\n' >"$ROOT/etc/pastcam/board"
has "a pattern on a board that has none" "$(sh "$ROOT/usr/lib/pastcam/defaults")" '"source": "pattern"'
sh "$ROOT/usr/lib/pastcam/defaults" >"$ROOT/defaults.json"
is "the real program takes them" "$("$PASTCAM_BIN" check-config --defaults "$ROOT/defaults.json" --config "$ROOT/defaults.json" 2>&1 | head -n 1)" "The configuration is good."
: >"$RUN/data-in-ram"
has "no updates without the card" "$(sh "$ROOT/usr/lib/pastcam/defaults")" '"update": {"dir": ""}'
has "and a floor that 128 MiB of RAM can keep" "$(sh "$ROOT/usr/lib/pastcam/defaults")" '"min_free_mib": 16}'

fresh starts
for _ in 1 2 3; do
	rm -f "$RUN/counted"
	script etc/init.d/S60pastcam start
done
is "three starts with the watchdog" "$(ls "$RUN/no-watchdog" 2>/dev/null) $(cat "$SET/unproven-starts")" " 3"
rm -f "$RUN/counted"
script etc/init.d/S60pastcam start
has "the fourth without" "$(ls "$RUN") $(notes)" "watchdog: off for this start: the 3 starts before did not last ten minutes"
script etc/init.d/S60pastcam restart
is "a restart of the service is no start of the board" "$(cat "$SET/unproven-starts")" 4

fresh trial
echo "A 2.0" >"$SET/trial"
for _ in 1 2 3 4; do
	rm -f "$RUN/counted"
	script etc/init.d/S60pastcam start
done
is "a slot on trial keeps the watchdog at every try" "$(ls "$RUN/no-watchdog" "$SET/unproven-starts" 2>/dev/null)" ""
mv "$SET/trial" "$SET/distrusted"
rm -f "$RUN/counted"
script etc/init.d/S60pastcam start
is "so does one that failed before" "$(ls "$SET/unproven-starts" 2>/dev/null)" ""
sed -i 's/slot=A/slot=B/' "$ROOT/proc/cmdline"
rm -f "$RUN/counted"
script etc/init.d/S60pastcam start
is "not the other one" "$(cat "$SET/unproven-starts")" 1
finish
