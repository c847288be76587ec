"""``python -m potstill``: the same as the ``potstill`` command."""

from potstill.cli import main

if __name__ == "__main__":
    main()
