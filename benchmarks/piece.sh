#!/usr/bin/env bash
# One piece of a grid on a bare machine, run in the root of this repository with the folder that `pieces gather` made:
#   benchmarks/piece.sh TRAVELS OUT MINUTES DATA [flags of compare]
# DATA is digits, or cifar10 for the sheets in TRAVELS: they gather in PIECES_HOME until both parts are there.
# What was finished comes back as OUT/steps.tar.gz.
set -euo pipefail
travels=$1 out=$2 minutes=$3 data=$4
shift 4
home=${PIECES_HOME:-$HOME/pieces}
mkdir -p "$home" "$out"
cp -r "$travels/." "$home/"
export PYTHONPATH="$PWD/src:$PWD:$home/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
if [ "$data" = cifar10 ]; then
  root="$home/data"
  if [ ! -f "$root/cifar-10-batches-py/test_batch" ] || [ ! -f "$root/cifar-10-batches-py/data_batch_1" ]; then
    mkdir -p "$root"
    python3 "$home/sheets/unpack.py" "$home/sheets/cifar-10" "$root"
  fi
  for batch in data_batch_1 data_batch_4 test_batch; do
    if [ ! -f "$root/cifar-10-batches-py/$batch" ]; then
      echo "a part of the data is not here yet: the next call brings it"
      exit 0
    fi
  done
  data="cifar10:$root"
fi
exec python3 -m benchmarks.pieces run "$home" "$out" "$minutes" "$data" "$@"
