#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Both functions of klp_target_mod name the sample klp_test_target_fg while that is there, and only then. Its callbacks
# log in their order.

patch=klp_test_target_fg
case "$1" in
during)	name=$patch; last="pre_patch post_patch " ;;
before)	name=original; last= ;;
after)	name=original; last="pre_unpatch post_unpatch " ;;
esac
got="$(cat /sys/kernel/klp_target/f) $(cat /sys/kernel/klp_target/g)"
[ "$got" = "f $name g $name" ] || { echo "the texts are $got"; exit 1; }
calls=$(dmesg | sed -n "s/.*$patch: callback \([a-z_]*\) klp_target_mod .*/\1/p" | tail -n 2 | tr '\n' ' ')
[ "$calls" = "$last" ] || { echo "the last callbacks were $calls"; exit 1; }
