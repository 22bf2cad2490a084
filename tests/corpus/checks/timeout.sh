#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The time after a panic is 99 s while the patch is there, and only then.

got=$(cat /proc/sys/kernel/panic)
case "$1" in
during)	[ "$got" = 99 ] ;;
*)	[ "$got" != 99 ] ;;
esac || { echo "the timeout is $got"; exit 1; }
