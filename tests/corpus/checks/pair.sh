#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What is encoded is decoded again, with the patch and without.

got=$(cat /sys/kernel/corpus/pair)
[ "$got" = 42 ] || { echo "42 became $got"; exit 1; }
