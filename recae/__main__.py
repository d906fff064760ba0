"""``python -m recae`` is `recae`."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; an interrupt while it is loaded ends it as any later one does."""
    try:
        from recae.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("recae: error: stopped\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
