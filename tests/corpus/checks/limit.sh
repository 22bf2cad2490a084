#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The limit of corpus_target is 100, and 50 while the patch is there, for every number.

case "$1" in
during)	most=50 ;;
*)	most=100 ;;
esac
for number in -7 0 1 49 50 51 99 100 101 5000; do
	wanted=$((number < most ? number : most))
	echo "$number" >/sys/kernel/corpus/limit || exit 1
	got=$(cat /sys/kernel/corpus/limit)
	[ "$got" = "$wanted" ] || { echo "the limit of $number is $got, not $wanted"; exit 1; }
done
