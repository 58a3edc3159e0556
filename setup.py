"""The ring engine's extension: the one thing that pyproject.toml cannot say, with a clear word where it cannot be built."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CompileError, PlatformError

ROOT = Path(__file__).resolve().parent
SOURCE = "ring/module.c"  # includes the other .c files: one unit, so that the hot functions inline
GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")  # free-threaded builds have no stable ABI

HOW = """
    Debian, Ubuntu       apt install gcc libc6-dev python3-dev
    Fedora, RHEL         dnf install gcc glibc-headers python3-devel
    openSUSE             zypper install gcc glibc-devel python3-devel
    pyenv, uv, conda     have their own Python.h; gcc is enough
or install a wheel that was built elsewhere: it needs no compiler (pip install muniment-*.whl)."""


def refuse(what: str, found: str, how: str = HOW) -> PlatformError:
    """What is missing, what was found instead, how to get it."""
    return PlatformError(
        f"\n\nmuniment cannot be built here: {what}.\nFound: {found}.\n"
        f"Its ring engine is C11 and compiles during installation.{how}\n"
    )


class Build(build_ext):
    """Looks at platform, compiler and headers first: their own errors name none of the three."""

    def run(self) -> None:
        """Refuse another system before it looks for its compiler."""
        if sys.platform != "linux":
            how = "\nUse a Linux machine or container."
            raise refuse("it runs on Linux only (futexes, /proc, tmpfs)", platform.platform(), how)
        super().run()

    def build_extensions(self) -> None:
        """Check, then build; raises PlatformError with our words."""
        command = list(getattr(self.compiler, "compiler_so", ()))
        cc = command[0] if command else ""
        if not cc or not shutil.which(cc):
            raise refuse(
                "the C compiler is missing", f"no program {cc or 'cc'!r} (CC={os.environ.get('CC', '')!r})"
            )
        if said := self.fails(
            command, "#include <stdatomic.h>\n#include <string.h>\nint main(void) { return 0; }\n"
        ):
            raise refuse(f"the C compiler {cc!r} does not work, or the C library's headers are missing", said)
        folders = [*self.compiler.include_dirs, *self.extensions[0].include_dirs]
        version = ".".join(map(str, sys.version_info[:2]))
        if said := self.fails([*command, *(f"-I{folder}" for folder in folders)], "#include <Python.h>\n"):
            raise refuse(f"the headers of Python {version} (Python.h) are missing", said)
        try:
            super().build_extensions()
        except (BaseError, CompileError) as error:
            raise refuse("the compiler refused our C code (its words stand above)", str(error)) from error

    @staticmethod
    def fails(command: list[str], text: str) -> str:
        """What the compiler says to a small program; "" if it compiles it."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "probe.c"
            source.write_text(text)
            argv = [*command, "-std=c11", "-c", str(source), "-o", str(source.with_suffix(".o"))]
            try:
                done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"{shlex.join(argv)}: {error}"
        return f"{shlex.join(argv)}: {done.stderr.strip()[:2000]}" if done.returncode else ""


setup(
    ext_modules=[
        Extension(
            "muniment.ring._ring",
            [SOURCE],
            depends=sorted({str(f.relative_to(ROOT)) for f in (ROOT / "ring").glob("*.[ch]")} - {SOURCE}),
            define_macros=[("Py_LIMITED_API", "0x030b0000")] if GIL else [],
            py_limited_api=GIL,
            extra_compile_args=[
                "-std=c11",
                "-O3",
                "-fvisibility=hidden",
                "-fno-semantic-interposition",
                "-g0",
            ],
        )
    ],
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if GIL else {},
)
