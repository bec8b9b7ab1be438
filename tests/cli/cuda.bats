#!/usr/bin/env bats
# Programs on --device cuda:0, with the module that runs on the host (tests/cuda_host): what it takes to open one, what can go
# wrong, and the same results as on the CPU.
load cli_helper

golden=$root/tests/golden
model=$golden/old/model
emulated=${OBJ:+$(cd "$root" && cd "$OBJ" && pwd)/emu}

need_module() {
    [ -f "$emulated/libblip2-cuda.so" ] || skip "the module does not run on this host (not x86-64, or the thread sanitizer)"
    [ "${WITH_IMAGE:-1}" = 1 ] && [ "${WITH_TEXT:-1}" = 1 ] || skip "built without images or text"
    export BLIP2_MODULE_DIR=$emulated ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
}

ask() { "$bin/vqa" --model "$model" --image "$golden/images/a.png" --image "$golden/images/b.png" --question "what?" --question "a" \
    --json --dtype f32 --max-new-tokens 6 "$@"; }
train() { "$bin/train_fashion" --model "$model" --images "$golden/images" --train "$golden/rows.csv" --output "$out" --batch-size 2 \
    --max-steps 4 --lora-dropout 0.2 --dropout 0.1 --dtype f32 --log-every 1 --sample-every 0 --seed 5 "$@"; }

@test "no module: 4, and where it was looked for" {
    export BLIP2_MODULE_DIR=$work/nowhere
    run_status 4 "$bin/vqa" --model "$model" --image "$golden/images/a.png" --device cuda:0
    said "$work/nowhere/libblip2-cuda.so"
    said "make cuda"
}

@test "a module that is none of this library's: 4" {
    need_module
    mkdir other
    echo 'int x;' >x.c && ${CC:-cc} -shared -fPIC -o other/libblip2-cuda.so x.c
    BLIP2_MODULE_DIR=$work/other run_status 4 ask --device cuda
    said "is no module of this library"
    printf 'static const unsigned long long m[64] = {1};\nconst void *b2_cuda_module_get(void) { return m; }\n' >x.c
    ${CC:-cc} -shared -fPIC -o other/libblip2-cuda.so x.c
    BLIP2_MODULE_DIR=$work/other run_status 4 ask --device cuda
    said "was built for another libblip2"
}

@test "names of GPUs that cannot be: 4" {
    need_module
    for name in cuda: cuda:x cuda:-1 cuda:1x cuda:99999 cuda0 gpu; do
        run_status 4 ask --device $name
        said "\"$name\""
    done
    run_status 4 ask --device cuda:1
    said "there is 1 GPU"
}

@test "no GPU, a driver or a GPU that is too old: 4" {
    need_module
    EMU_GPUS=0 run_status 4 ask --device cuda:0
    said "driver"
    echo 'int x;' >x.c && ${CC:-cc} -shared -fPIC -o libcuda.so.1 x.c
    LD_LIBRARY_PATH=$work EMU_DRIVER=12080 run_status 4 ask --device cuda:0
    said "the NVIDIA driver is too old: it runs CUDA 12.8, this module needs 13.0"
    EMU_CAPABILITY=75 run_status 4 ask --device cuda:0
    said "compute capability 7.5, at least 8.0 is needed"
}

@test "answers on the GPU are the CPU's" {
    need_module
    ask --device cpu | sed 's/"logprob": .*//' >cpu
    ask --device cuda:0 | sed 's/"logprob": .*//' >gpu
    cmp cpu gpu
    [ "$(wc -l <gpu)" = 4 ]
    ask --device cuda:0 --adapter "$golden/old/adapter" | sed 's/"logprob": .*//' >gpu
    ask --device cpu --adapter "$golden/old/adapter" | sed 's/"logprob": .*//' >cpu
    cmp cpu gpu
}

@test "quantised weights: answers and losses on the GPU are near the CPU's" {
    need_module
    "$bin/init_model" --preset fashion-tiny --output ft --tokenizer "$model/spiece.model" >/dev/null
    for d in int8 int4; do
        for device in cpu cuda:0; do
            ask --model ft --dtype $d --device $device --question "a" --max-new-tokens 2 >$d.$device
        done
        sed 's/"logprob": .*//' $d.cpu >a
        sed 's/"logprob": .*//' $d.cuda:0 >b
        cmp a b
    done
    for device in cpu cuda:0; do
        out=$work/t.$device
        train --dtype int8 --max-steps 2 --device $device >/dev/null 2>&1
        sed -n 's/.*"loss": *\([0-9.]*\).*/\1/p' "$out/metrics.jsonl" >loss.$device
    done
    paste loss.cpu loss.cuda:0 | awk '{ d = ($1 - $2) / $1; if (d < 0) d = -d; if (!($1 > 0 && d <= 0.005)) bad = 1; n++ } END { exit bad || n < 2 }'
}

@test "answers and training steps by cuBLASLt: the same tokens, recorded as eager" {
    need_module
    ask --device cpu | sed 's/"logprob": .*//' >cpu
    EMU_CUBLAS=2 ask --device cuda:0 | sed 's/"logprob": .*//' >gpu
    cmp cpu gpu
    out=a EMU_CUBLAS=2 BLIP2_CUDA_GRAPHS=0 train --device cuda:0 --dtype bf16
    out=b EMU_CUBLAS=2 train --device cuda:0 --dtype bf16
    cmp a/adapter_model.safetensors b/adapter_model.safetensors
}

@test "answers and training steps by cuDNN: asked for alone, recorded as eager; where it is missing, our own" {
    need_module
    pictures() { EMU_REPORT=$work/$1 EMU_CUDNN=2 ask --device cuda:0 --dtype bf16 >"$1.out"; }
    attentions() { sed 's/.*attentions //' "$1"; }
    pictures own
    BLIP2_CUDNN=0 pictures off
    EMU_CUDNN_VERSION=91200 BLIP2_CUDNN=1 pictures old
    EMU_CAPABILITY=89 BLIP2_CUDNN=1 pictures ada
    for r in own off old ada; do
        [ "$(attentions $r)" = 0 ]
        cmp own.out $r.out
    done
    BLIP2_CUDNN=1 pictures asked
    [ "$(attentions asked)" -ge 2 ]
    export EMU_CUDNN=2
    out=plain train --device cuda:0 --dtype bf16
    out=a BLIP2_CUDNN=1 BLIP2_CUDA_GRAPHS=0 train --device cuda:0 --dtype bf16
    out=b BLIP2_CUDNN=1 EMU_REPORT=$work/recorded train --device cuda:0 --dtype bf16
    cmp a/adapter_model.safetensors b/adapter_model.safetensors
    [ "$(attentions recorded)" -ge 2 ]
    if cmp plain/adapter_model.safetensors b/adapter_model.safetensors; then return 1; fi
    for r in plain b; do sed -n 's/.*"loss": *\([0-9.]*\).*/\1/p' $r/metrics.jsonl >loss.$r; done
    paste loss.plain loss.b | awk '{ d = ($1 - $2) / $1; if (d < 0) d = -d; if (!($1 > 0 && d <= 0.005)) bad = 1; n++ } END { exit bad || n != 4 }'
}

@test "what the real cuDNN, where there is one, plans of our attention for an H100" {
    plan=${OBJ:+$(cd "$root" && cd "$OBJ" && pwd)/plan_cudnn}
    [ -x "$plan" ] || skip "plan_cudnn is not built on this host"
    LD_LIBRARY_PATH=${plan%/*}/no_driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" run "$plan"
    [ "$status" != 77 ] || skip "$output"
    echo "$output"
    [ "$status" = 0 ]
}

replays() { sed 's/.*replays \([0-9]*\) .*/\1/' "$1"; }

@test "answers of recorded steps are those of eager ones, to the bit" {
    need_module
    EMU_REPORT=$work/eager BLIP2_CUDA_GRAPHS=0 ask --device cuda:0 >a
    EMU_REPORT=$work/recorded ask --device cuda:0 >b
    cmp a b
    [ "$(replays eager)" = 0 ]
    [ "$(replays recorded)" -ge 3 ]
}

@test "recorded training steps are eager ones, to the bit" {
    need_module
    for accumulate in 1 2; do
        out=a EMU_REPORT=$work/eager BLIP2_CUDA_GRAPHS=0 train --device cuda:0 --batch-size 3 --max-steps 12 --accumulate $accumulate
        out=b EMU_REPORT=$work/recorded train --device cuda:0 --batch-size 3 --max-steps 12 --accumulate $accumulate
        cmp a/adapter_model.safetensors b/adapter_model.safetensors
        [ "$(replays eager)" = 0 ]
        [ "$(replays recorded)" -ge 1 ]
        rm -r a b
    done
}

launches() { sed 's/launches \([0-9]*\) .*/\1/' "$1"; }

@test "LoRA: three launches a linear layer and step, whatever its adapted blocks and dropout" {
    need_module
    export BLIP2_CUDA_GRAPHS=0
    out=a EMU_REPORT=$work/q train --device cuda:0 --lora-targets q
    out=b EMU_REPORT=$work/qv train --device cuda:0 --lora-targets q,v
    out=c EMU_REPORT=$work/plain train --device cuda:0 --lora-targets q,v --lora-dropout 0
    # v lies beside q in self-attention, and in a layer of its own in the cross-attention of the decoder's 3 layers; 4 steps
    [ $(($(launches qv) - $(launches q))) = $((4 * 3 * 3)) ]
    [ "$(launches plain)" = "$(launches qv)" ]
}

@test "too little memory on the GPU: refused with the numbers before anything is taken" {
    need_module
    EMU_MEMORY_MB=4 run_status 1 "$bin/vqa" --model "$root/examples/fashion-tiny" --image "$golden/images/a.png" --device cuda:0
    said "MiB are wanted"
    said "are free"
}

@test "a GPU lost in the middle of an answer: 4" {
    need_module
    EMU_FAIL_AT=60 run_status 4 ask --device cuda:0
    said "unspecified launch failure"
}

@test "training on the GPU: the CPU's losses, and an adapter that works on both" {
    need_module
    out=cpu train --device cpu --feature-cache on --cache-file cpu.cache
    out=gpu train --device cuda:0 --feature-cache on --cache-file gpu.cache
    [ "$(wc -c <cpu.cache)" = "$(wc -c <gpu.cache)" ]
    sed 's/.*"loss": \([0-9.]*\).*/\1/' cpu/metrics.jsonl >a
    sed 's/.*"loss": \([0-9.]*\).*/\1/' gpu/metrics.jsonl >b
    paste a b | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-4 * $1) { print "losses differ: " $0; bad = 1 } } END { exit bad || NR != 4 }'
    run_status 0 ask --device cpu --adapter gpu
    run_status 0 ask --device cuda:0 --adapter cpu
}

@test "no room for another stream on the GPU: 4, whichever it is" {
    need_module
    few() {
        env EMU_STREAMS=$n "$bin/train_fashion" --model "$model" --images "$golden/images" --train "$golden/rows.csv" --output few \
            --batch-size 2 --max-steps 1 --device cuda:0
    }
    for n in 0 1 2 3 4 5 6 7; do
        run few
        [ "$status" != 0 ] || break
        [ "$status" = 4 ] && said "a CUDA stream: out of memory"
    done
    [ $n -ge 3 ] && [ $n -lt 7 ] # one for the weights, two of the trainer's
}

@test "a GPU lost in the middle of training: 4, and the last checkpoint goes on to the same end" {
    need_module
    out=whole train --device cuda:0 --checkpoint-dir whole.ckpt --checkpoint-every 1
    out=part run_status 4 env EMU_FAIL_AT="250" "$bin/train_fashion" --model "$model" --images "$golden/images" --train "$golden/rows.csv" \
        --output part --batch-size 2 --max-steps 4 --lora-dropout 0.2 --dropout 0.1 --dtype f32 --log-every 1 --sample-every 0 --seed 5 \
        --device cuda:0 --checkpoint-dir ckpt --checkpoint-every 1
    said "unspecified launch failure"
    [ -d ckpt/step-1 ]
    out=part train --device cuda:0 --checkpoint-dir ckpt --checkpoint-every 1 --resume auto
    cmp whole/adapter_model.safetensors part/adapter_model.safetensors
}
