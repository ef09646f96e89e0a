"""Lets ``python -m kallsift`` do what the ``kallsift`` command does."""

from __future__ import annotations

from kallsift.cli.app import main

if __name__ == "__main__":
    main()
