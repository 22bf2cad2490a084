#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# corpus_text() says "patched" while the patch is there.

case "$1" in
during)	wanted=patched ;;
*)	wanted=original ;;
esac
got=$(cat /sys/kernel/corpus/text)
[ "$got" = "$wanted" ] || { echo "the text is $got, not $wanted"; exit 1; }
