"""Link the source folders as `.dev/muniment/*`, so that type checkers see the package (see pyproject).

Run once after a checkout: `python ops/dev_links.py`. Links are relative, the folder is ignored by git.
"""

from pathlib import Path

FOLDERS = ("app", "cli", "domain", "ops", "projections", "ring", "store")


def main() -> None:
    """Create or refresh the links."""
    root = Path(__file__).resolve().parent.parent
    package = root / ".dev" / "muniment"
    package.mkdir(parents=True, exist_ok=True)
    links = {name: Path("../..") / name for name in FOLDERS}
    links |= {file.name: Path("../../_package") / file.name for file in (root / "_package").glob("*.*")}
    for name, target in links.items():
        link = package / name
        if link.is_symlink():
            link.unlink()
        link.symlink_to(target)
    print(f"linked {len(links)} entries below {package}")


if __name__ == "__main__":
    main()
