#!/bin/sh
# Trains examples/fashion-tiny from scratch: a plain captioner of the 60,000 training photos of Fashion-MNIST. No question
# is ever asked here, and none of the 10,000 test photos is seen. Interrupted, the same command goes on where it was.
# OUT, MODEL, PHOTOS, PASSES (over seven captions of every photo), SEED, THREADS name other places and settings.
set -eu
cd "$(dirname "$0")/.."
BIN=${BIN:-build/bin} OUT=${OUT:-build/base-model} MODEL=${MODEL:-examples/fashion-tiny} PASSES=${PASSES:-2}
SEED=${SEED:-1} THREADS=${THREADS:-0} PHOTOS=${PHOTOS:-/usr/share/datasets/fashion-mnist}
SHOP=$OUT/data

mkdir -p "$OUT"
if [ ! -f "$SHOP/captions_train.csv" ]; then
    "$BIN/prepare_fashion" --fashion-mnist "$PHOTOS" --data "$SHOP" --out "$SHOP" --captions 7 --threads "$THREADS"
fi

# The tokenizer knows the words of captions, questions and answers; every text once.
if [ ! -f "$OUT/start/model.safetensors" ]; then
    for f in captions_train.csv vqa_train.csv; do tail -n +2 "$SHOP/$f" | cut -d , -f 2- | tr -d '"' | tr ',' '\n'; done |
        sed 's/^ *//' | sort -u >"$OUT/words.txt"
    "$BIN/init_model" --output "$OUT/start" --preset fashion-tiny --dtype f32 --tokenizer-text "$OUT/words.txt" --seed "$SEED"
fi

"$BIN/train_fashion" --model "$OUT/start" --images "$SHOP/images" --train "$SHOP/captions_train.csv" --output "$OUT/trained" \
    --trainable all --epochs "$PASSES" --batch-size 64 --lr 0.001 --beta2 0.98 --dropout 0 --weight-decay 0.05 --warmup 300 \
    --augment flip,shift --seed "$SEED" --log-every 100 --sample-every 1000 --checkpoint-dir "$OUT/checkpoints" \
    --checkpoint-every 1000 --threads "$THREADS"
"$BIN/adapter" convert --model "$OUT/trained" --output "$MODEL" --dtype bf16

# How many captions of 1,000 held-out photos name the right article.
head -n 3001 "$SHOP/vqa_test.csv" | sed -n 's/^\([0-9]*\),.*,Article type: \(.*\)$/\1\t\2/p' >"$OUT/truth.tsv"
"$BIN/vqa" --model "$MODEL" --threads "$THREADS" --image $(sed "s|^\([0-9]*\).*|$SHOP/images/\1.jpg|" "$OUT/truth.tsv") \
    >"$OUT/captions.tsv"
paste "$OUT/truth.tsv" "$OUT/captions.tsv" | awk -F '\t' '
    index($5, $2) { right++ }
    END { printf "captions that name the right article: %.3f of %d\n", right / NR, NR }'
