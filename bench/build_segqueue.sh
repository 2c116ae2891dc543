#!/bin/sh
# SPDX-License-Identifier: MIT
# build_segqueue.sh - compile contender_segqueue.rs and the crates that it needs from
# Debian's sources to a static library, with rustc alone.
#
#   build_segqueue.sh RUSTC SOURCE OUTPUT     without OUTPUT: only look if all is there
set -eu
rustc=$1 source=$2 output=${3-}
crates=/usr/share/cargo/registry

# Sets target.
crate_source()
{
	target=
	for found in "$crates/$1"-[0-9]*/src/lib.rs; do
		[ -f "$found" ] && target=$found
	done
	[ -n "$target" ]
}

crate_source crossbeam-utils
crate_source crossbeam-queue
[ -n "$output" ] || exit 0

into=$output.crates
mkdir -p "$into"
for crate in cfg-if crossbeam-utils crossbeam-queue; do
	crate_source "$crate" || continue # newer ones do without cfg-if
	name=$(echo "$crate" | tr - _)
	set -- --crate-type rlib --crate-name "$name" --cap-lints allow -L "$into" \
		-C opt-level=3 --out-dir "$into"
	if [ "$crate" != cfg-if ]; then
		set -- "$@" --cfg 'feature="std"' --cfg 'feature="alloc"'
		[ ! -f "$into/libcfg_if.rlib" ] ||
			set -- "$@" --extern "cfg_if=$into/libcfg_if.rlib"
	fi
	[ "$crate" != crossbeam-queue ] ||
		set -- "$@" --extern "crossbeam_utils=$into/libcrossbeam_utils.rlib"
	"$rustc" --edition 2021 "$@" "$target"
done
"$rustc" --edition 2021 --crate-type staticlib --crate-name contender_segqueue -C opt-level=3 \
	-C panic=abort -C relocation-model=pic -L "$into" \
	--extern "crossbeam_queue=$into/libcrossbeam_queue.rlib" -o "$output" "$source"
