"""`python -m pipelines`, the same as the `pipelines` command."""

import contextlib
import os
import signal
import sys
from pathlib import Path

# Where this folder was sent as a job's, nothing is installed from it: the library is found beside this package.
LIBRARY = Path(__file__).absolute().parent.parent / "platform"
if (LIBRARY / "zoocast").is_dir() and str(LIBRARY) not in sys.path:
    sys.path.insert(0, str(LIBRARY))


def main() -> None:
    """The console script. Until the command is there to tell it, Ctrl-C and a polite kill are told here."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from zoocast.cli.app import main as command

        command()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            os.write(2, b"error: interrupted\n")
        os._exit(130)  # Python's own way out may crash on modules that were left half-imported


if __name__ == "__main__":
    main()
