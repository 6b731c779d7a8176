#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check-binary.sh AGENT - static (no interpreter, nothing needed) and under 1 MiB
set -eu
if readelf -lW "$1" | grep -q INTERP; then
	echo "$1 has an interpreter: not static" >&2
	exit 1
fi
if readelf -dW "$1" | grep -q NEEDED; then
	echo "$1 needs libraries" >&2
	exit 1
fi
size=$(stat -c %s "$1")
if [ "$size" -ge 1048576 ]; then
	echo "$1 has $size bytes, 1 MiB is the limit" >&2
	exit 1
fi
