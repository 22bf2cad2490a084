#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# klp_target_store keeps seconds, and milliseconds while klp_test_transform_world is there. What came before is
# converted, in both directions; their sum is that of what they say.

store=/sys/kernel/klp_store
items() { tr '\n' ' ' <$store/items; }
expect()
{
	[ "$(items)" = "$1" ] || { echo "the items are $(items)and not $1"; exit 1; }
	sum=$(cat $store/sum)
	[ "$sum " = "$1" ] || { echo "the sum is $sum and not $1"; exit 1; }
}

fill()
{
	echo 1 >$store/clear
	echo 1500 >$store/add
}

case "$1" in
before)	fill; expect "1000 " ;;
during)	expect "1000 "; fill; expect "1500 " ;;
after)	expect "1000 " ;;
esac
