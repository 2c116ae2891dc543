# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# common.sh - what quickstart.sh and check.sh share: steps, logs, packages.
# POSIX sh, to be read with '.'; LOG must be set before run is used.

STEP=start

# step 2/4 build: begin a step; what follows on the line is printed by the caller.
step() {
	STEP="[$1] $2"
	printf '[%s] %-10s' "$1" "$2"
}

# fail WORDS...: say where, and stop.
fail() {
	printf '\nFAILED in %s\n  %s\n' "$STEP" "$*" >&2
	exit 1
}

# run COMMAND...: quietly; on failure show the command and the end of its log.
run() {
	printf '\n$ %s\n' "$*" >>"$LOG"
	if "$@" >>"$LOG" 2>&1 </dev/null; then
		return 0
	fi
	printf '\nFAILED in %s\n  command: %s\n  the last lines of %s:\n' "$STEP" "$*" "$LOG" >&2
	tail -n 30 "$LOG" | sed 's/^/  | /' >&2
	exit 1
}

# seconds: since the epoch, whole.
seconds() {
	date +%s
}

# missing PACKAGE...: those that are not installed.
missing() {
	for pkg; do
		dpkg-query -W -f '${Status}\n' "$pkg" 2>/dev/null |
			grep -q '^install ok installed$' || printf '%s ' "$pkg"
	done
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		run env DEBIAN_FRONTEND=noninteractive "$@"
	elif command -v sudo >/dev/null 2>&1; then
		run sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
	else
		fail "packages are missing ($wanted) and neither root nor sudo is at hand"
	fi
}

# packages PACKAGE...: install what is missing, and only then touch the network.
packages() {
	if ! command -v dpkg-query >/dev/null 2>&1; then
		printf 'no dpkg here; needed are %s\n' "$*"
		return 0
	fi
	wanted=$(missing "$@")
	if [ -z "$wanted" ]; then
		printf '%s  (present)\n' "$*"
		return 0
	fi
	printf 'installing %s ...\n' "$wanted"
	as_root apt-get update
	# shellcheck disable=SC2086 # one word each
	as_root apt-get install -y --no-install-recommends $wanted
	printf '%15s%s  (installed: %s)\n' '' "$*" "$wanted"
}
