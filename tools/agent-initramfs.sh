#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# agent-initramfs.sh MODULES AGENT OUT - an initramfs of the agent and the modules it loads.
# MODULES is an unpacked lib/modules/<release>. For trying the agent alone; products have their own builder.
set -eu
modules=$1 agent=$2 out=$3
release=$(basename "$modules")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/dev" "$tmp/lib/modules/$release"
cp "$agent" "$tmp/init"
python3 - "$modules" "$tmp/lib/modules/$release" <<'PY'
import os, re, shutil, sys

src, dst = sys.argv[1:]
want = """virtio_pci virtio_mmio virtio_console vmw_vsock_virtio_transport virtio_rng virtio_blk crc32c_intel
libcrc32c erofs ext4 overlay fuse virtio_net""".split()
files = {}
for d, _, names in os.walk(src):
    for n in names:
        if n.endswith(".ko"):
            files[n[:-3].replace("-", "_")] = os.path.relpath(os.path.join(d, n), src)

def depends(name):
    data = open(os.path.join(src, files[name]), "rb").read()
    m = re.search(rb"\0depends=([^\0]*)\0", data)
    return [x.replace("-", "_") for x in m.group(1).decode().split(",") if x] if m else []

def order(name):
    """Dependencies, those to be loaded last first."""
    out = []
    def visit(n):
        for d in depends(n):
            if d in files:
                visit(d)
        if n not in out:
            out.append(n)
    visit(name)
    return out[:-1][::-1]

every = set()
for w in want:
    if w in files:
        every |= {w, *order(w)}
with open(os.path.join(dst, "modules.dep"), "w") as f:
    for n in sorted(every):
        os.makedirs(os.path.dirname(os.path.join(dst, files[n])), exist_ok=True)
        shutil.copy(os.path.join(src, files[n]), os.path.join(dst, files[n]))
        f.write(files[n] + ":" + "".join(" " + files[d] for d in order(n)) + "\n")
PY
(cd "$tmp" && find . | LC_ALL=C sort | cpio --quiet -o -H newc) >"$out"
