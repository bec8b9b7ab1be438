#!/bin/sh
# Lays out 700 photos of Fashion-MNIST as a shop's folder and makes questions and answers of it.
set -eu
cd "$(dirname "$0")/../.."
exec "${BIN:-build/bin}/prepare_fashion" --fashion-mnist "${PHOTOS:-/usr/share/datasets/fashion-mnist}" \
    --data build/example/shop --out build/example/shop --limit 700 --captions 2 "$@"
