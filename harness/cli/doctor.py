# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness doctor: what this machine can do, and what it lacks."""

from __future__ import annotations
