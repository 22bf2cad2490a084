# SPDX-License-Identifier: GPL-2.0-only
"""Guests: initramfs, QEMU, console, SSH, snapshots, and the machine made of them."""
