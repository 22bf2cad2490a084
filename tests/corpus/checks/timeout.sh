#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# /proc/cmdline says "corpus" and the time after a panic is 99 s while the patch is there, and only then.

case "$1" in
during)	wanted=corpus ;;
*)	wanted=console ;;
esac
grep -q "$wanted" /proc/cmdline || { echo "/proc/cmdline says $(cat /proc/cmdline)"; exit 1; }
got=$(cat /proc/sys/kernel/panic)
case "$1" in
during)	[ "$got" = 99 ] ;;
*)	[ "$got" != 99 ] ;;
esac || { echo "the timeout is $got"; exit 1; }
