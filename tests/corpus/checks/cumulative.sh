#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# /proc/cmdline says "corpus" while the patch is there. /proc/version never does: an older patch that changed it is
# replaced.

case "$1" in
during)	wanted=corpus ;;
*)	wanted=console ;;
esac
grep -q "$wanted" /proc/cmdline || { echo "/proc/cmdline says $(cat /proc/cmdline)"; exit 1; }
grep -q Linux /proc/version || { echo "/proc/version says $(cat /proc/version)"; exit 1; }
