#!/usr/bin/env bats
# train_fashion killed at random moments, or stopped by a signal, and started again: the same bytes at the end.
load cli_helper

KILLS=100
WRITING=10 # of them inside the writing of a checkpoint, at least
if [ -n "${SAN:-}" ]; then KILLS=15 WRITING=1; fi # ten times slower, and the same files

# Everything that a resumed run could get wrong at once.
train() {
    exec "$bin/train_fashion" --model "$model" --images "$golden/images" --train "$golden/rows.csv" --output out \
        --batch-size 1 --accumulate 2 --epochs 12 --shuffle on --lora-dropout 0.2 --dropout 0.1 --feature-cache on --cache-file tokens.cache \
        --checkpoint-dir ckpt --checkpoint-every 1 --lr 0.01 --log-every 1 --sample-every 0 --seed 5 "$@"
}

# What must not depend on the way a run went: step, loss, lr and norm of each line; not the seconds.
figures() { sed 's/, "samples_per_s".*//' "$1/metrics.jsonl"; }

same_as_undisturbed() {
    for f in adapter_model.safetensors adapter_config.json loss.svg; do cmp "whole/$f" "out/$f"; done
    diff <(figures whole) <(figures out)
    last=$(ls -d whole.ckpt/step-* | sort -V | tail -n 1)
    diff -r "$last" "ckpt/${last##*/}"
}

undisturbed() {
    need_whole_build
    begin=$(date +%s%N)
    (train --threads 1) >log 2>&1 || { cat log; return 1; }
    whole_us=$((($(date +%s%N) - begin) / 1000))
    mv out whole && mv ckpt whole.ckpt && mv tokens.cache whole.cache
}

# A random time, in microseconds.
sleep_up_to() {
    local us=$(((RANDOM * 32768 + RANDOM) % $1))
    sleep "$(printf '%d.%06d' $((us / 1000000)) $((us % 1000000)))"
}

@test "killed $KILLS times, $WRITING of them inside a checkpoint's writing" {
    undisturbed
    RANDOM=${SEED:=17}
    kills=0 writing=0 caching=0 saving=0
    window=$((whole_us * 3 / 2)) # narrower after a run that ended, wider after a kill: both go on happening
    while [ $kills -lt $KILLS ] || { [ $writing -lt $WRITING ] && [ $kills -lt $((4 * KILLS)) ]; }; do
        train >log 2>&1 &
        pid=$! rc=0
        sleep_up_to $window
        kill -KILL $pid 2>/dev/null || true
        wait $pid 2>/dev/null || rc=$?
        if [ $rc = 0 ]; then # done before the kill came: judged, and begun anew
            same_as_undisturbed
            rm -rf out ckpt tokens.cache
            window=$((window * 7 / 10))
            continue
        fi
        [ $rc = 137 ] || { echo "exit status $rc"; cat log; return 1; }
        kills=$((kills + 1))
        window=$((window * 104 / 100))
        ! ls -d ckpt/.tmp-step-* >/dev/null 2>&1 || writing=$((writing + 1))
        ! ls tokens.cache.* >/dev/null 2>&1 || caching=$((caching + 1))
        ! ls out/*.tmp.* >/dev/null 2>&1 || saving=$((saving + 1))
    done
    echo "# $kills kills: $writing inside a checkpoint's writing, $caching inside the cache's, $saving inside the adapter's; seed $SEED" >&3
    (train) >log 2>&1 || { cat log; return 1; }
    same_as_undisturbed
    [ -z "$(ls -d ckpt/.tmp-* out/*.tmp.* tokens.cache.* 2>/dev/null)" ] # nothing is left lying about
    [ "$(ls ckpt | wc -l)" = 2 ]
    [ $writing -ge $WRITING ]
}

@test "stopped by SIGTERM, gone on with other threads" {
    undisturbed
    for threads in 2 1 3; do
        train --threads $threads >log 2>&1 &
        pid=$!
        sleep "$(printf '%d.%06d' $((whole_us / 3000000)) $((whole_us / 3 % 1000000)))"
        kill -TERM $pid 2>/dev/null || true
        wait $pid || { cat log; return 1; }
    done
    (train) >log 2>&1 || { cat log; return 1; }
    same_as_undisturbed
}
