#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# f of klp_target_mod answers what g does while klp_test_relocation is there.

case "$1" in
during)	wanted="g original" ;;
*)	wanted="f original" ;;
esac
got=$(cat /sys/kernel/klp_target/f)
[ "$got" = "$wanted" ] || { echo "f is $got"; exit 1; }
