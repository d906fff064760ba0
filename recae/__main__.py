"""``python -m recae`` is `recae`."""

from recae.cli import main

if __name__ == "__main__":
    main()
