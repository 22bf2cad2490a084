# SPDX-License-Identifier: GPL-2.0-only
"""Workers of pytest-xdist that are forked from one process which has imported what they need.

To import pytest, the plugin and what they use takes most of a worker's start. `client` starts the
server and names it to xdist; `request` is what execnet starts for each worker, a few lines that
hand its streams to the server; `server` forks.
"""
