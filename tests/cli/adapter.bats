#!/usr/bin/env bats
# adapter: info, merge, convert, quantise.
load cli_helper

lora=$golden/old/adapter

@test "info tells of a model and of an adapter" {
    need_whole_build
    run_status 0 "$bin/adapter" info --model "$model"
    said "parameters"
    run_status 0 "$bin/adapter" info --model "$model" --adapter "$lora"
    said "applied to"
    n=$(echo "$output" | sed -n 's/^applied to \([0-9]*\) of \([0-9]*\) modules$/\1 \2/p')
    [ "${n% *}" -gt 0 ] && [ "${n% *}" = "${n#* }" ]
    run_status 0 "$bin/adapter" info --model "$model" --adapter "$lora" --json
    said '"touches_image": '
}

@test "merged answers as base and adapter do" {
    need_whole_build
    run_status 0 "$bin/adapter" merge --model "$model" --adapter "$lora" --output merged
    ask() { "$bin/vqa" --json --image "$golden/images/a.png" --question "which colour?" x --max-new-tokens 8 "$@" | sed 's/, "logprob".*//'; }
    ask --model merged >one
    ask --model "$model" --adapter "$lora" >two
    diff one two
}

@test "convert changes the dtype and nothing else" {
    need_whole_build
    run_status 0 "$bin/adapter" convert --model "$model" --output half --dtype bf16
    grep -a -q '"dtype":"BF16"' half/model.safetensors
    ! grep -a -q '"dtype":"F32"' half/model.safetensors
    run_status 0 "$bin/adapter" convert --model half --output whole --dtype f32
    run_status 0 "$bin/adapter" convert --model whole --output again --dtype bf16
    cmp half/model.safetensors again/model.safetensors
    [ -f half/config.json ] && [ -f half/preprocessor_config.json ]
}

@test "quantise: a folder that answers as the weights quantised while loading do" {
    need_whole_build
    ask() { "$bin/vqa" --json --image "$golden/images/a.png" --question "which colour?" x --max-new-tokens 8 "$@"; }
    run_status 0 "$bin/adapter" quantise --model "$model" --output q8 --dtype int8
    said "kept bf16: wo,lm_head,qformer,language_projection"
    grep -a -q '"dtype":"I8"' q8/model.safetensors
    run_status 0 "$bin/adapter" info --model q8
    said "matrices int8"
    ask --model q8 >one
    ask --model "$model" --dtype int8 >two
    cmp one two
    run_status 0 "$bin/adapter" quantize --model "$model" --output q8b --dtype int8
    cmp q8/model.safetensors q8b/model.safetensors
    run_status 0 "$bin/adapter" convert --model q8 --output wide --dtype f32
    ! grep -a -q '"dtype":"I8"' wide/model.safetensors
    run_status 0 "$bin/adapter" merge --model q8 --adapter "$lora" --output merged
    ask --model merged >three
    [ -s three ]
}

@test "quantise measures, and keeps wide what costs too much" {
    need_whole_build
    run_status 1 "$bin/adapter" quantise --model "$model" --output q --dtype int8 --data "$golden/rows.csv" --images "$golden/images" --rows 2 --most 0
    said "nats/token"
    said "nothing is left to quantise"
    run_status 0 "$bin/adapter" quantise --model "$model" --output q --dtype int8 --data "$golden/rows.csv" --images "$golden/images" --rows 2 --most 1000 --keep qkv
    said "kept bf16: qkv"
    said "all of them together"
    ! echo "$output" | grep -q "^wo .*stays bf16"
}

@test "quantise: what cannot be" {
    run_status 2 "$bin/adapter" quantise --model x --output y
    said "int8 or int4 is missing"
    run_status 2 "$bin/adapter" quantise --model x --output y --dtype bf16
    run_status 2 "$bin/adapter" quantise --model x --output y --dtype int8 --data z
    said "belong together"
    run_status 2 "$bin/adapter" convert --model x --output y --dtype int8
    said "see quantise"
    run_status 2 "$bin/adapter" info --model x --keep wo
    said "belongs to quantise"
    run_status 2 "$bin/adapter" quantise --model x --adapter z --output y --dtype int8
    need_whole_build
    run_status 1 "$bin/adapter" quantise --model "$model" --output y --dtype int8 --keep vision_model,language_model,qformer,language_projection
    said "nothing is left to quantise"
    run_status 0 "$bin/adapter" quantise --model "$model" --output narrow --dtype int8
    run_status 3 "$bin/adapter" quantise --model narrow --output y --dtype int8
    said "quantised already"
    run_status 3 "$bin/adapter" quantise --model nowhere --output y --dtype int8
}

@test "commands that cannot be" {
    run_status 2 "$bin/adapter"
    run_status 2 "$bin/adapter" explain --model x
    said "info|merge|convert|quantise"
    run_status 2 "$bin/adapter" merge --model x --output y
    said "--adapter is missing"
    run_status 2 "$bin/adapter" merge --model x --adapter y
    said "--output is missing"
    run_status 2 "$bin/adapter" convert --model x --output y
    said "--dtype is missing"
    run_status 2 "$bin/adapter" --model x
    : >file
    run_status 2 "$bin/adapter" convert --model x --output file/y --dtype f32
    said "--output"
}

@test "an adapter that does not fit: named" {
    need_whole_build
    cp -r "$lora" bad
    echo '{' >bad/adapter_config.json
    run_status 3 "$bin/adapter" info --model "$model" --adapter bad
    said adapter_config.json
    rm bad/adapter_config.json
    run_status 3 "$bin/adapter" info --model "$model" --adapter bad
}
