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

awk -v hz=100 '
	FILENAME == "/proc/stat" && $1 == "cpu" { stat = $5 / hz }
	FILENAME == "/proc/uptime" { uptime = $2 }
	END {
		differ = stat - uptime
		if (differ < 0) differ = -differ
		print "idle: /proc/stat " stat " s, /proc/uptime " uptime " s"
		exit differ > 0.5
	}' /proc/stat /proc/uptime
