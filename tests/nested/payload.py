# SPDX-License-Identifier: Apache-2.0
"""What goes into L1 for the tests: programs of a build directory, the guest's files, and the tests, as an EROFS image."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import l1

TOP = pathlib.Path(__file__).resolve().parents[2]
ELF = b"\x7fELF"
TREES = ("tests", "guest", "tools", "include", "examples", "bench")
NO_PROGRAMS = ("fuzz", "tests/unit")  # of the build; what runs in L1 does not need them


def is_elf(path):
    with open(path, "rb") as f:
        return f.read(4) == ELF


def copy(path, to):
    """Copy a file or directory as it is, holes too."""
    to.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--sparse=always", "--", path, to], check=True)


def stage_build(build, to):
    """Copy programs, shared libraries and guest files of meson's directory BUILD, without objects."""
    for where, dirs, files in os.walk(build):
        relative = pathlib.Path(where).relative_to(build)
        dirs[:] = [d for d in dirs if not d.endswith(".p") and not d.startswith("meson-") and str(relative / d) not in NO_PROGRAMS]
        for name in files:
            path = pathlib.Path(where) / name
            wanted = relative == pathlib.Path("guest") or path.is_symlink() or (".o" not in path.suffixes and ".a" not in path.suffixes
                                                                                 and is_elf(path))
            if wanted:
                copy(path, to / relative / name)


def stage_tracked(to):
    """Copy the tracked files of TREES (with changes not committed)."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z", *TREES], cwd=TOP, check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (TOP / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, to / name, follow_symlinks=False)


def for_command(sources, build, out):
    """Image OUT of SOURCES {name in it: path} and, as "build", the programs of directory BUILD (or None)."""
    with tempfile.TemporaryDirectory(prefix="vial-stage-", dir=os.path.dirname(out)) as tmp:
        stage = pathlib.Path(tmp)
        for name, path in sources.items():
            copy(path, stage / name)
        if build:
            stage_build(pathlib.Path(build).resolve(), stage / "build")
        l1.make_image(stage, out)
    return out


def for_tests(build, out):
    """Image OUT for running tests/integ of BUILD: /rig/build, the sources' trees, and assets in /rig/cache."""
    with tempfile.TemporaryDirectory(prefix="vial-stage-", dir=out.parent) as tmp:
        stage = pathlib.Path(tmp)
        stage_build(build, stage / "build")
        stage_tracked(stage)
        debian = subprocess.run([TOP / "tests/assets/make-debian"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, text=True)
        assets = stage / "cache/vial/assets"
        assets.mkdir(parents=True)
        shutil.copy(debian.stdout.strip(), assets)
        l1.make_image(stage, out)
    return out
