#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# With the fix, /proc/uptime and /proc/stat tell the same idle time, to half a second.
# Without it they may differ by any amount, and by none: only the form can be checked.

read -r uptime idle </proc/uptime || exit 1
echo "$uptime $idle" | grep -qE '^[0-9]+\.[0-9]{2} [0-9]+\.[0-9]{2}$' || {
	echo "/proc/uptime says $uptime $idle"
	exit 1
}
[ "$1" = during ] || exit 0

# With next to no idle time yet, any two values agree.
seconds=0
until awk '$1 == "cpu" { exit $5 < 300 }' /proc/stat; do
	[ $((seconds += 1)) -lt 15 ] || exit 1
	sleep 1
done

# Time passes between two reads, on a busy host much: what /proc/uptime says is between two of /proc/stat.
awk -v hz=100 '
	FILENAME == "/proc/stat" && $1 == "cpu" { stat[n++] = $5 / hz }
	FILENAME == "/proc/uptime" { uptime = $2 }
	END {
		print "idle: /proc/stat " stat[0] " to " stat[1] " s, /proc/uptime " uptime " s"
		exit uptime < stat[0] - 0.5 || uptime > stat[1] + 0.5
	}' /proc/stat /proc/uptime /proc/stat
