"""Print a command block of a README: `readme_block.py README NAME`.

The block is the fence that follows the comment `<!-- ci:NAME -->`, which must be there exactly once; so what CI runs is
what a stranger reads.
"""

import re
import sys
from pathlib import Path


def block(text: str, name: str) -> str:
    """Return the commands of one block.

    Raises:
        ValueError: the marker is absent or there twice, nothing but blank lines stands between it and a closed
        fence, or the block is empty.
    """
    marker = f"<!-- ci:{name} -->"
    if (count := text.count(marker)) != 1:
        raise ValueError(f"expected {marker} once, found it {count} times")
    found = re.match(r"\s*\n```(?:sh|bash)\n(.*?)^```$", text.partition(marker)[2], re.DOTALL | re.MULTILINE)
    if found is None or not found[1].strip():
        raise ValueError(f"no fenced sh block with commands right after {marker}")
    return found[1]


if __name__ == "__main__":
    try:
        sys.stdout.write(block(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2]))
    except (OSError, ValueError) as error:
        sys.exit(f"readme_block: {sys.argv[1]}: {error}")
