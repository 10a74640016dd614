"""Run a program whose /etc/resolv.conf is another file: unshare --mount python3 with_resolver.py FILE PROGRAM..."""

import os
import subprocess
import sys

if __name__ == "__main__":
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", sys.argv[1], os.path.realpath("/etc/resolv.conf")], check=True)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - it takes our place
