#!/bin/sh
# Fetches the source of phpredis, with its tests, as Debian packages it: suite_source.sh DIR. Prints the folder
# of the tests. apt's own lists and sources stay as they are.
set -eu
dir=$1
mkdir -p "$dir/sources" "$dir/lists/partial"
sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >"$dir/sources/source.sources" 2>/dev/null ||
	sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >"$dir/sources/source.list"
get() { apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$dir/sources" -o Dir::State::lists="$dir/lists" "$@" >&2; }
get update
cd "$dir"
get source --download-only php-redis
tar xf php-redis_*.orig.tar.*
# A source package may carry several releases: the newest is the one that is built for this PHP.
find "$dir" -type d -path '*/redis-*/tests' | sort -V | tail -n 1
