# SPDX-License-Identifier: GPL-2.0-only
"""Work on other machines with Dask: functions of plain data, and files by digest."""
