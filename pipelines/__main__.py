"""`python -m pipelines`, the same as the `pipelines` command."""

import sys
from pathlib import Path

# Where this folder was sent as a job's, nothing is installed from it: the library is found beside this package.
LIBRARY = Path(__file__).absolute().parent.parent / "platform"
if (LIBRARY / "zoocast").is_dir() and str(LIBRARY) not in sys.path:
    sys.path.insert(0, str(LIBRARY))

from zoocast.cli.app import main  # noqa: E402

if __name__ == "__main__":
    main()
