"""Turns pip's report of a resolution into a lock file.

write_lock.py REPORT LOCK EXTRAS TARGET TEST    # the make targets that write and that test it
"""

import json
import os
import platform
import sys
from pathlib import Path

HEADER = """\
# Every package of `pip install -e '.[{extras}]'`, pinned. Written by `make {target}` with
# {python} on {system}; newer Pythons and other systems may need pins of their own.
# Renew after a change of setup.py: `make {target}` (keeps pins that still fit) or
# `make {target} UPGRADE=1` (newest of everything), then `make {test}`.
"""


def lock_text(report: dict, **header: str) -> str:
    """The lock file of a `pip install --report` document; ``header`` names what made it."""
    names = (item["metadata"] for item in report["install"])
    pins = [
        f"{m['name']}=={m['version']}" for m in names if m["name"] not in ("asr_qat", "asr-qat")
    ]
    head = HEADER.format(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.machine()}",
        **header,
    )
    return head + "\n".join(sorted(pins, key=str.lower)) + "\n"


if __name__ == "__main__":
    source, lock = Path(sys.argv[1]), Path(sys.argv[2])
    names = dict(zip(("extras", "target", "test"), sys.argv[3:], strict=True))
    text = lock_text(json.loads(source.read_text(encoding="utf-8")), **names)
    temporary = lock.with_name(lock.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, lock)
    print(f"wrote {lock}")
