#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The second of the twins is patched, the first never.

case "$1" in
during)	wanted=patched ;;
*)	wanted=second ;;
esac
got="$(cat /sys/kernel/klp_twins/first) $(cat /sys/kernel/klp_twins/second)"
[ "$got" = "first $wanted" ] || { echo "the twins are $got"; exit 1; }
