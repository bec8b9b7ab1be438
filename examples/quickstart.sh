#!/bin/sh
# Photos in, attributes out: the whole tour on real photos (Debian's Fashion-MNIST), with the small base model that
# ships in examples/fashion-tiny. Leaves before.json, after.json, report.html, loss.svg and answers.jsonl in $OUT.
# BIN, OUT, BASE, PHOTOS, THREADS name other places and settings.
set -eu
cd "$(dirname "$0")/.."
BIN=${BIN:-build/bin} OUT=${OUT:-build/quickstart} BASE=${BASE:-examples/fashion-tiny} THREADS=${THREADS:-0}
SHOP=$OUT/data
begin=$(date +%s)

step() { printf '\n== %s (%d s)\n' "$1" $(($(date +%s) - begin)); }

find_photos() {
    for d in "${PHOTOS:-}" /usr/share/datasets/fashion-mnist /usr/share/dataset-fashion-mnist; do
        if [ -n "$d" ] && [ -f "$d/train-images-idx3-ubyte.gz" ]; then echo "$d" && return; fi
    done
    echo "quickstart: no Fashion-MNIST here; type 'make deps', or apt-get install -y dataset-fashion-mnist" >&2
    return 1
}

# Rows of "attribute accuracy" from an evaluation.json.
scores() {
    tr '{' '\n' <"$1" | awk '
        /^"overall":/ { name = "overall"; next }
        /"accuracy":/ {
            value = $0; sub(/.*"accuracy":/, "", value); sub(/,.*/, "", value)
            print name "\t" value
        }
        { name = $0; sub(/^.*},/, "", name); sub(/^"/, "", name); sub(/":$/, "", name) }'
}

mkdir -p "$OUT"
step "laying out 21,000 photos as a shop's folder, and asking three questions about each"
photos=$(find_photos)
"$BIN/prepare_fashion" --fashion-mnist "$photos" --data "$SHOP" --out "$SHOP" --limit 21000 --threads "$THREADS"

step "before: the base model has only ever written captions"
"$BIN/train_fashion" --model "$BASE" --images "$SHOP/images" --eval "$SHOP/vqa_test.csv" --eval-limit 3000 \
    --output "$OUT/before" --threads "$THREADS"

step "LoRA on T5's q and v: 24,000 questions about 8,000 photos"
"$BIN/train_fashion" --model "$BASE" --images "$SHOP/images" --train "$SHOP/vqa_train.csv" --limit 24000 \
    --eval "$SHOP/vqa_test.csv" --eval-limit 3000 --output "$OUT/lora" --epochs "${EPOCHS:-2}" --batch-size 64 --lr 0.003 \
    --warmup 50 --log-every 50 --sample-every 150 --resume no --threads "$THREADS"

cp "$OUT/before/evaluation.json" "$OUT/before.json"
cp "$OUT/lora/evaluation.json" "$OUT/after.json"
cp "$OUT/lora/report.html" "$OUT/lora/loss.svg" "$OUT/"

step "three photos the model has not seen, all questions, each photo encoded once"
"$BIN/vqa" --model "$BASE" --adapter "$OUT/lora" --json --threads "$THREADS" --image "$SHOP/images/70000.jpg" \
    "$SHOP/images/70001.jpg" "$SHOP/images/70006.jpg" --question \
    "What is the article type of the product in this picture?" \
    "What is the category of the product in this picture?" \
    "What is the sub-category of the product in this picture?" >"$OUT/answers.jsonl"
cat "$OUT/answers.jsonl"

step "exact answers on 1,000 held-out photos"
scores "$OUT/before.json" >"$OUT/before.tsv"
scores "$OUT/after.json" >"$OUT/after.tsv"
awk -F '\t' 'BEGIN { printf "%-16s %8s    %8s\n", "attribute", "before", "after" }
    NR == FNR { before[$1] = $2; next }
    { printf "%-16s %7.1f %% -> %6.1f %%\n", $1, 100 * before[$1], 100 * $2 }' "$OUT/before.tsv" "$OUT/after.tsv"
rm -f "$OUT/before.tsv" "$OUT/after.tsv"
printf '\nIn %s: before.json, after.json, report.html (pictures of the misses), loss.svg, answers.jsonl, lora/ (the adapter)\n' "$OUT"
step "done"
