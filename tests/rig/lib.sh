# Shared by the rig's scripts on the host; sourced, never run.
#
# The rig writes only below one cache folder. Everything in it is named by a hash of what it was made from, so a second run
# finds it at once and a changed input makes a new one beside the old, which goes when nothing uses it any more.

# Without it a command that fails inside of $(...) fails nothing.
shopt -s inherit_errexit

rig_tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rig_cache=${BOWLINE_RIG_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/bowline-rig}

# What `su` without a dash leaves out: libvirtd, tgtd and mkfs live there.
export PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
  say "$*"
  exit 1
}

need_root() { [ "$(id -u)" = 0 ] || die "needs root: it makes namespaces and mounts of its own"; }

# need GROUP COMMAND...: fails early, and says what installs the missing command.
need() {
  local group=$1 command
  shift
  for command in "$@"; do
    command -v "$command" >/dev/null || die "'$command' is missing: run scripts/install-deps $group"
  done
}

# hash_of FILE|FOLDER|=TEXT...: one short hash over contents, modes and relative names.
hash_of() {
  local input
  for input in "$@"; do
    case $input in
      =*) printf '%s\n' "$input" ;;
      *) (cd "$(dirname "$input")" && find "$(basename "$input")" -type f -printf '%m %p\n' -exec sha256sum {} + | LC_ALL=C sort) ;;
    esac
  done | sha256sum | cut -c 1-12
}

# cached NAME BUILDER ARG...: prints the path $rig_cache/NAME, made by `BUILDER TEMPORARY_FOLDER ARG...` unless it is there.
# A folder appears under its final name only when complete; two builders at once wait for each other. Not to be called where
# its status is tested (`if`, `||`) unless the builder tests each of its commands itself: bash would go on after one that fails.
cached() {
  local name=$1 made started=$SECONDS
  shift
  made=$rig_cache/$name
  if [ ! -e "$made" ]; then
    mkdir -p "$rig_cache"
    (
      flock 8
      [ ! -e "$made" ] || exit 0
      say "making $name (once)"
      rm -rf "$made.part"
      mkdir "$made.part"
      "$1" "$made.part" "${@:2}" >&2 </dev/null 8>&-
      mv "$made.part" "$made"
      say "made $name in $((SECONDS - started)) s, $(du -sh "$made" | cut -f 1)"
      prune "$made"
    ) 8>"$rig_cache/${name%-*}.lock"
  fi
  [ -d "$made" ] || return 1
  # When it was last of use, for prune.
  touch "$made"
  printf '%s\n' "$made"
}

# prune FOLDER: removes what FOLDER supersedes, unless something runs from it (its path is in a command line) or it was of use
# within a day: another clone of the repository may have it from other inputs.
prune() {
  local old
  for old in "${1%-*}"-*/; do
    old=${old%/}
    [ "$old" != "$1" ] && [ -z "$(find "$old" -maxdepth 0 -mmin -1440)" ] && ! pgrep -f -- "$old/" >/dev/null || continue
    say "removing $(basename "$old"), which nothing has used for a day"
    rm -rf "$old"
  done
}

# The Debian mirror that this machine itself uses for a codename.
mirror() {
  local uri
  uri=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $1" | sed -n 1p)
  [ -n "$uri" ] || die "apt knows no mirror for $1: run 'apt-get update', or add one to its sources"
  printf '%s\n' "$uri"
}
