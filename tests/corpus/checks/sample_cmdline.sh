#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# /proc/cmdline names the sample klp_test_cmdline_a while that is there.

got=$(cat /proc/cmdline)
case "$1" in
during)	[ "$got" = "klp_test_cmdline_a: this has been live patched" ] ;;
*)	[ "${got#*live patched}" = "$got" ] ;;
esac || { echo "/proc/cmdline says $got"; exit 1; }
