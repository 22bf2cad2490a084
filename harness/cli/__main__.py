# SPDX-License-Identifier: GPL-2.0-only
"""``python -m harness.cli``: the same as the command klp-harness."""

from harness.cli import main

if __name__ == "__main__":
    main()
