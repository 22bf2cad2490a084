#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# /proc/cmdline says "corpus" while the patch is there.

case "$1" in
during)	wanted=corpus ;;
*)	wanted=console ;;
esac
grep -q "$wanted" /proc/cmdline || { echo "/proc/cmdline says $(cat /proc/cmdline)"; exit 1; }
