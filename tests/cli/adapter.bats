#!/usr/bin/env bats
# adapter: info, merge, convert.
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

@test "commands that cannot be" {
    run_status 2 "$bin/adapter"
    run_status 2 "$bin/adapter" explain --model x
    said "info|merge|convert"
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
