#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The function of vmlinux and the one of klp_target_mod are those of klp_test_two_objects while that is there. The
# callbacks of both log in their order.

patch=klp_test_two_objects
line=$(cat /proc/cmdline)
text=$(cat /sys/kernel/klp_target/f)
new="$patch: this has been live patched"
case "$1" in
during)	[ "$line" = "$new" ] && [ "$text" = "f $patch" ] ;;
*)	[ "$line" != "$new" ] && [ "$text" = "f original" ] ;;
esac || { echo "/proc/cmdline says $line, and f is $text"; exit 1; }

case "$1" in
during)	last="pre_patch post_patch " ;;
before)	last= ;;
after)	last="pre_unpatch post_unpatch " ;;
esac
for object in vmlinux klp_target_mod; do
	calls=$(dmesg | sed -n "s/.*$patch: callback \([a-z_]*\) $object .*/\1/p" | tail -n 2 | tr '\n' ' ')
	[ "$calls" = "$last" ] || { echo "the last callbacks of $object were $calls"; exit 1; }
done
