"""Builds swiftnets._core: the Swift engine as a static library, the C shim, and one link of both.

The result needs neither Swift nor an installed BLAS: the Swift runtime is linked in, and OpenBLAS,
from the build requirement scipy-openblas32, is copied beside the module. Everything else about the
package is in pyproject.toml.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, PlatformError

ROOT = Path(__file__).resolve().parent
SHIM = Path("python", "core")
LEAST_SWIFT = (6, 1)
# "address" or "thread" builds engine, shim and link with that sanitizer: see Tests/sanitize.py.
SANITIZER = os.environ.get("SWIFTNETS_SANITIZE", "")
UNDEFINED = ["-fsanitize=undefined"]
HARDENED = ["-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-O2"]

# The copy of OpenBLAS gets a name of its own, so that no other package's OpenBLAS, possibly another
# version under the original name, is taken for it in one process. The two names are of one length:
# the one is put where the other stands.
THEIR_NAME = b"libscipy_openblas.so\0"
OUR_NAME = b"libswiftnets_blas.so\0"
BLAS = OUR_NAME[:-1].decode()


def described():
    """The README for a package index, where links to files of the repository lead nowhere."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n\n", "", text, flags=re.MULTILINE)
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


def swift_version():
    """The version of the Swift toolchain on PATH, or None."""
    try:
        told = subprocess.run(["swift", "--version"], capture_output=True, text=True).stdout
    except OSError:
        return None
    match = re.search(r"Swift version (\d+)\.(\d+)", told)
    return match and (int(match[1]), int(match[2]))


def require_swift():
    least = "{}.{}".format(*LEAST_SWIFT)
    version = swift_version()
    if version is None:
        raise PlatformError(
            f"swiftnets is built with Swift {least} or later, "
            "and there is no Swift toolchain on PATH: install one from swift.org"
        )
    if version < LEAST_SWIFT:
        raise PlatformError(
            f"swiftnets is built with Swift {least} or later, and the Swift on PATH "
            "is {}.{}: install a newer one from swift.org".format(*version)
        )


def openblas_folder():
    """The folder of the package scipy_openblas32; importing it would load the library."""
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None:
        raise PlatformError(
            "the build requirement scipy-openblas32 is not installed: "
            "build with pip, or install what pyproject.toml names under build-system"
        )
    return Path(spec.submodule_search_locations[0])


def run(command, failure, **environment):
    print(*command, flush=True)
    if subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}).returncode != 0:
        raise CompileError(f"{failure}; its messages are above")


class BuildCore(build_ext):
    def build_extension(self, ext):
        require_swift()
        openblas = openblas_folder()
        module = Path(self.get_ext_fullpath(ext.name)).resolve()
        module.parent.mkdir(parents=True, exist_ok=True)
        blas = module.with_name(BLAS)
        library = (openblas / "lib" / THEIR_NAME[:-1].decode()).read_bytes()
        if library.count(THEIR_NAME) != 1:
            raise CompileError(
                f"{openblas} is not the scipy-openblas32 that pyproject.toml asks for"
            )
        blas.write_bytes(library.replace(THEIR_NAME, OUR_NAME))
        blas.chmod(0o755)

        engine = self.build_engine(openblas)
        objects = self.compiler.compile(
            ext.sources,
            output_dir=self.build_temp,
            macros=ext.define_macros,
            include_dirs=[*ext.include_dirs, str(openblas / "include")],
            depends=ext.depends,
            extra_postargs=["-std=c11", "-fvisibility=hidden", "-Wextra", *self.flags()],
        )
        # swiftc links, as cc would leave out the Swift runtime's start-up object.
        linker = ["-soname", module.name, "-rpath", "$ORIGIN"]
        linker += [] if SANITIZER else ["--gc-sections", "-s"]
        # Addresses are bound at once and read-only from then on, and data is never executable.
        linker += ["-z", "relro", "-z", "now", "--rosegment", "-z", "noexecstack"]
        linker += [f"--version-script={SHIM / 'exports.map'}"]
        run(
            ["swiftc", "-emit-library", "-static-stdlib", "-no-toolchain-stdlib-rpath"]
            + ([f"-sanitize={SANITIZER}"] if SANITIZER else [])
            + [*objects, str(engine), f"-L{blas.parent}", f"-l{blas.stem.removeprefix('lib')}"]
            + [word for flag in linker for word in ("-Xlinker", flag)]
            + ["-o", str(module)],
            "linking swiftnets._core failed",
        )

    def flags(self):
        """What the shim is compiled with beyond the usual."""
        if not SANITIZER:
            return HARDENED
        return ["-O1", "-g", f"-fsanitize={SANITIZER}", *UNDEFINED]

    def build_engine(self, openblas):
        """The engine as a static library, always at one place: a second build is incremental."""
        scratch = ROOT / "build" / f"swift{SANITIZER and '-'}{SANITIZER}"
        options = ["--static-swift-stdlib", "--product", "SwiftNetsABI"]
        if not SANITIZER:
            # It has the folder in it, and is cut off in any case.
            options += ["-debug-info-format", "none"]
        else:
            options += [
                f"--sanitize={SANITIZER}",
                *(word for flag in UNDEFINED for word in ("-Xcc", flag)),
            ]
        run(
            ["swift", "build", "-c", "release", *options, "--scratch-path", str(scratch)],
            "building the Swift engine failed",
            SWIFTNETS_OPENBLAS=str(openblas),
        )
        return scratch / "release" / "libSwiftNetsABI.a"

    def copy_extensions_to_source(self):
        """In-place builds, editable installs among them, need OpenBLAS beside the module too."""
        super().copy_extensions_to_source()
        package = self.get_finalized_command("build_py").get_package_dir("swiftnets")
        self.copy_file(str(Path(self.build_lib, "swiftnets", BLAS)), str(Path(package, BLAS)))


class SameBytes(bdist_wheel):
    """A wheel without what differs from build to build: times, and what a umask permits."""

    def write_wheelfile(self, *arguments, **options):
        super().write_wheelfile(*arguments, **options)
        for folder, _, names in os.walk(self.bdist_dir):  # as it is put into the archive next
            for path in (Path(folder, name) for name in names):
                path.chmod(0o755 if path.suffix == ".so" else 0o644)


os.environ.setdefault("SOURCE_DATE_EPOCH", "315532800")  # the first second that a zip can tell

if sys.platform != "linux":
    raise SystemExit(f"swiftnets builds on Linux only, not on {sys.platform}")

setup(
    long_description=described(),
    long_description_content_type="text/markdown",
    ext_modules=[
        Extension(
            "swiftnets._core",
            sources=[str(path.relative_to(ROOT)) for path in sorted((ROOT / SHIM).glob("*.c"))],
            depends=[str(SHIM / "core.h"), "Sources/CSwiftNets/include/swiftnets.h"],
            include_dirs=["Sources/CSwiftNets/include"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildCore, "bdist_wheel": SameBytes},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
