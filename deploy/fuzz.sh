#!/usr/bin/env bash
# Runs every Fuzz target of the module for FUZZTIME (30s unless told), one
# after the other. A crasher is left under testdata/fuzz of its package.
set -euo pipefail
cd "$(dirname "$0")/.."
go="${GO:-go}"
time="${FUZZTIME:-30s}"
count=0
while IFS=: read -r file target; do
  package="./$(dirname "$file")"
  echo "== $package $target ($time)"
  "$go" test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "$time"
  count=$((count + 1))
done < <(git grep -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed 's/:func /:/' | sort)
if [ "$count" -eq 0 ]; then
  echo "no Fuzz target found: run this in a git checkout" >&2
  exit 1
fi
echo "fuzz: $count targets, $time each, no crash"
