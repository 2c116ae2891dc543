#!/bin/sh
# SPDX-License-Identifier: MIT
# build_rust.sh - contender_rust.rs and the crates it needs, from Debian's packages and by
# rustc alone: cargo would ask the network.
#
#   build_rust.sh RUSTC REGISTRY SOURCE OUTPUT
set -eu
rustc=$1 registry=$2 source=$3 out=$4
dir=$out.crates
rm -rf "$dir"
mkdir -p "$dir"

crate() { # NAME FEATURE...
	name=$1
	shift
	# shellcheck disable=SC2046 # one word each
	set -- $(printf -- '--cfg feature="%s" ' "$@")
	"$rustc" --edition 2018 --cap-lints allow -C opt-level=3 --crate-type rlib \
		--crate-name "$(echo "$name" | tr - _)" -L "$dir" --out-dir "$dir" "$@" \
		$externs "$(ls -d "$registry/$name"-[0-9]*)/src/lib.rs"
	lib=$(echo "$name" | tr - _)
	externs="$externs --extern $lib=$dir/lib$lib.rlib"
}

externs=
crate cfg-if none
crate crossbeam-utils std
crate crossbeam-queue std alloc
"$rustc" --edition 2021 -C opt-level=3 -C panic=abort --crate-type staticlib -L "$dir" $externs \
	-o "$out" "$source"
