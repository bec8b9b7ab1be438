#!/usr/bin/env bats
# train_fashion on the golden tests' tiny model.
load cli_helper

train() {
    "$bin/train_fashion" --model "$model" --images "$golden/images" --train "$golden/rows.csv" --output out --batch-size 2 \
        --sample-every 2 --log-every 1 "$@"
}
steps() { wc -l <out/metrics.jsonl; }

@test "LoRA: adapter, metrics, lines, curve" {
    need_whole_build
    train --max-steps 4 >lines
    [ -f out/adapter_model.safetensors ] && [ -f out/adapter_config.json ]
    [ "$(steps)" = 4 ]
    for key in step loss lr grad_norm samples_per_s; do [ "$(grep -c "\"$key\": " out/metrics.jsonl)" = 4 ]; done
    [ "$(grep -c -E '^Loss: [0-9]+\.[0-9]{4}$' lines)" = 4 ]
    grep -q -E '^Epoch Loss: [0-9]+\.[0-9]{4}$' lines
    [ "$(grep -c '^sample: step' lines)" = 2 ]
    holds lines 'train_loss='
    grep -q '<svg' out/loss.svg
    run_status 0 "$bin/vqa" --model "$model" --adapter out --image "$golden/images/a.png" --question "which colour?" --max-new-tokens 4
}

@test "the adapter carries the template, and vqa uses it" {
    need_whole_build
    train --max-steps 1 --prompt-template 'Ask {} now' >lines
    run_status 0 "$bin/adapter" info --model "$model" --adapter out
    said "prompt template: Ask {} now"
    ask() { "$bin/vqa" --model "$model" --adapter out --json --image "$golden/images/a.png" --max-new-tokens 6 "$@" | sed 's/.*"answer"//'; }
    ask --question x >own
    ask --question 'Ask x now' --raw-prompt >raw
    diff own raw
}

@test "the loss falls" {
    need_whole_build
    train --max-steps 60 --lr 0.01 --warmup 0 --schedule constant --lora-dropout 0 --sample-every 0 >lines
    sed 's/.*"loss": \([0-9.]*\).*/\1/' out/metrics.jsonl | awk 'NR <= 5 { a += $1 } { last[NR % 5] = $1 }
        END { for (i in last) b += last[i]; exit !(b < 0.8 * a) }'
}

@test "the same seed, the same bytes; another, others" {
    need_whole_build
    train --max-steps 3 --threads 1 >lines && mv out one
    train --max-steps 3 --threads 2 >lines && mv out two
    train --max-steps 3 --seed 2 >lines
    cmp one/adapter_model.safetensors two/adapter_model.safetensors
    ! cmp -s one/adapter_model.safetensors out/adapter_model.safetensors
}

@test "Q-Former and everything: model folders" {
    need_whole_build
    for what in qformer all; do
        rm -rf out
        train --max-steps 2 --trainable $what --augment flip,shift >lines
        [ -f out/model.safetensors ] && [ -f out/config.json ]
        run_status 0 "$bin/vqa" --model out --image "$golden/images/a.png" --question x --max-new-tokens 2
    done
}

@test "captions are learnt too" {
    need_whole_build
    printf 'id,Caption\na,a pair of boots\nb,a blue coat\n' >captions.csv
    run_status 0 train --train captions.csv --max-steps 3 --trainable all
    said "Loss: "
}

@test "evaluation: with training, and alone" {
    need_whole_build
    run_status 0 train --max-steps 2 --eval "$golden/rows.csv" --eval-every 1
    said "eval_accuracy="
    said "overall"
    holds out/evaluation.json '{"overall":{"accuracy":'
    grep -q '<html' out/report.html
    run_status 0 "$bin/train_fashion" --model "$model" --images "$golden/images" --eval "$golden/rows.csv" --init-adapter out --output alone
    [ ! -e alone/metrics.jsonl ]
    cmp out/evaluation.json alone/evaluation.json
}

@test "an adapter whose dropout is 1 is not trained on: 2" {
    need_whole_build
    run_status 0 train --max-steps 1
    mkdir one
    sed 's/"lora_dropout": [^,]*/"lora_dropout": 1/' out/adapter_config.json >one/adapter_config.json
    cp out/adapter_model.safetensors one
    run_status 2 train --init-adapter one --max-steps 1
    said "lora_dropout: expected less than 1"
}

@test "stopped by SIGTERM: 0, and the same command goes on to the same bytes" {
    need_whole_build
    long() { train --max-steps 300 --checkpoint-dir keep --checkpoint-every 100 --log-every 300 --sample-every 0 "$@"; }
    long >lines && mv out whole && rm -rf keep
    "$bin/train_fashion" --model "$model" --images "$golden/images" --train "$golden/rows.csv" --output out --batch-size 2 \
        --max-steps 300 --checkpoint-dir keep --checkpoint-every 100 --log-every 300 --sample-every 0 >lines &
    pid=$!
    for i in $(seq 200); do [ -s out/metrics.jsonl ] && break || sleep 0.05; done
    kill -TERM $pid
    wait $pid
    holds lines "stopped at step"
    [ "$(steps)" -lt 300 ]
    run_status 0 long
    said "Resuming from step $(sed -n 's/stopped at step \([0-9]*\).*/\1/p' lines)"
    [ "$(steps)" = 300 ]
    cmp whole/adapter_model.safetensors out/adapter_model.safetensors
    run_status 0 long
    said "Resuming from step 300"
    run_status 2 long --lr 0.003
    said "lr"
}

@test "the seed's preset, and options that win over it" {
    need_whole_build
    train --preset aws-seed --max-steps 2 --lora-rank 4 >lines
    holds out/adapter_config.json '"r": 4'
    grep -q '"lora_alpha": 32' out/adapter_config.json
    sed 's/.*"lr": \([^,]*\),.*/\1/' out/metrics.jsonl | awk '$1 < 0.00249 || $1 > 0.00251 { bad++ } END { exit bad > 0 || NR != 2 }'
}

@test "a value that is not finite: 1, and the weights from before it" {
    need_whole_build
    cp -r "$model" broken
    # The last four bytes of the file are a weight: not a number.
    size=$(wc -c <broken/model.safetensors)
    printf '\000\000\300\177' | dd of=broken/model.safetensors bs=1 seek=$((size - 4)) conv=notrunc 2>dd.log
    run_status 1 train --model broken --max-steps 5 --checkpoint-dir keep --checkpoint-every 1 --feature-cache off
    said "infinite or not a number"
    said "step 1"
    [ ! -e keep/step-1 ]
    [ ! -s out/metrics.jsonl ]
    run_status 0 "$bin/adapter" info --model "$model" --adapter out
}

@test "the plan needs no output" {
    need_whole_build
    run_status 0 train --plan
    said total
    [ ! -e out ]
}

@test "what cannot be written is said before anything is read" {
    : >file
    run_status 2 "$bin/train_fashion" --model nowhere --images x --train y --output file/out
    said "--output"
    run_status 2 "$bin/train_fashion" --model nowhere --images x --train y --output out --checkpoint-dir file/keep
    said "--checkpoint-dir"
}

@test "bad rows: 3, with file and line" {
    need_whole_build
    printf 'id,Question\na,x\n' >rows.csv
    run_status 3 train --train rows.csv
    said Answer
    printf 'id,Question,Answer\n' >rows.csv
    run_status 3 train --train rows.csv
    said rows.csv
    printf 'id,Question,Answer\na,x,y\nzzz,x,y\n' >rows.csv
    run_status 3 train --train rows.csv
    said "line 3"
    run_status 3 train --train nowhere.csv
    said nowhere.csv
    run_status 3 train --eval nowhere.csv
    said nowhere.csv
}

@test "options that do not go together: 2" {
    run_status 2 "$bin/train_fashion" --model x --images y --output z
    said "neither --train nor --eval"
    run_status 2 train --eval-every 5
    run_status 2 train --init-adapter x --trainable all
    run_status 2 train --feature-cache on --trainable all
    run_status 2 train --checkpoint-every 5
}

@test "the model's own folder is not the output" {
    need_whole_build
    cp -r "$model" mine
    for what in lora all; do
        run_status 2 "$bin/train_fashion" --model mine --images "$golden/images" --train "$golden/rows.csv" --output ./mine/ \
            --trainable $what --max-steps 1
        said "own folder"
    done
    diff -r "$model" mine
}
