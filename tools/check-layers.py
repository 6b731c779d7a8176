#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check-layers.py: every #include between our folders is one that docs/ARCHITECTURE.md allows.

The table below the line "<!-- layers -->" of that document is the rule itself, so document and check cannot
drift apart: first column a folder of src/, second column the folders it may include besides itself. "public" stands for
<vial/vial.h>; vial/error.h, the error type all folders share, is open to everyone. Also refused: an include that climbs out of
its folder, a folder that the table does not know, a row without a folder once --complete is given.
"""
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]')
EVERYWHERE = {"vial/error.h"}
GENERATED = {"agent.pb.h": "wire"}  # made by nanopb beside wire/agent.proto


def read_table():
    allowed, inside = {}, False
    for line in (TOP / "docs/ARCHITECTURE.md").read_text().splitlines():
        if line.strip() == "<!-- layers -->":
            inside = True
        elif inside and line.startswith("|"):
            cells = [c.strip() for c in line.strip("|").split("|")]
            names = re.findall(r"`([a-z]+)`", cells[0])
            for name in names:
                allowed[name] = set(re.findall(r"`([a-z]+)`", cells[1]))
        elif inside and allowed and line.strip():
            break
    if not allowed:
        sys.exit("check-layers: docs/ARCHITECTURE.md has no table after <!-- layers -->")
    return allowed


def target(path, folders):
    """The folder that an include names: one of ours, "public", or None if it is not ours."""
    if path in EVERYWHERE:
        return None
    if path in GENERATED:
        return GENERATED[path]
    head = path.split("/")[0]
    if head == "vial" and "/" in path:
        return "public"
    return head if "/" in path and head in folders else None


def check_file(file, folder, allowed, wrong):
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        m = INCLUDE.match(line)
        if not m:
            continue
        path, where = m.group(1), f"{file.relative_to(TOP)}:{number}"
        if ".." in path.split("/"):
            wrong.append(f"{where}: include \"{path}\" climbs out of its folder")
            continue
        to = target(path, allowed.keys())
        if to and to != folder and to not in allowed[folder]:
            wrong.append(f"{where}: {folder} may not include {to} (\"{path}\")")


def main():
    allowed, wrong, seen = read_table(), [], 0
    for file in sorted((TOP / "src").rglob("*.[ch]")):
        folder = file.relative_to(TOP / "src").parts[0]
        if folder not in allowed:
            wrong.append(f"{file.relative_to(TOP)}: folder '{folder}' is not in the table of docs/ARCHITECTURE.md")
            continue
        seen += 1
        check_file(file, folder, allowed, wrong)
    for file in sorted((TOP / "examples").rglob("*.c")):
        seen += 1
        check_file(file, "examples", {**allowed, "examples": {"public"}}, wrong)
    print("\n".join(wrong) if wrong else f"layers: {seen} files keep to the table")
    sys.exit(1 if wrong else 0)


main()
