#!/usr/bin/env bats
# init_model: folders with random weights.
load cli_helper

init() { "$bin/init_model" --preset fashion-tiny "$@"; }

@test "a preset, twice the same by seed" {
    run_status 0 init --output one
    said "parameters"
    [ -f one/config.json ] && [ -f one/preprocessor_config.json ] && [ -f one/model.safetensors ]
    init --output two
    init --output three --seed 2
    cmp one/model.safetensors two/model.safetensors
    ! cmp -s one/model.safetensors three/model.safetensors
    grep -a -q BF16 one/model.safetensors
    init --output wide --dtype float32
    ! grep -a -q BF16 wide/model.safetensors
}

@test "the sizes of a config.json" {
    run_status 0 "$bin/init_model" --config "$model/config.json" --output copy --dtype f32
    run_status 0 "$bin/adapter" info --model copy --json
    said '"parameters": '
}

@test "a tokenizer from text" {
    need_whole_build
    command -v spm_train >/dev/null || skip "spm_train is not installed"
    for i in 1 2 3 4 5 6 7 8; do echo "the article type is boot number $i"; echo "a photo of a coat, shelf $i"; done >text
    run_status 0 init --output one --tokenizer-text text --vocab-size 40
    said "tokenizer of"
    [ -f one/spiece.model ]
    init --output two --tokenizer-text text --vocab-size 40
    cmp one/spiece.model two/spiece.model
    run_status 0 init --output copy --tokenizer one/spiece.model
    cmp one/spiece.model copy/spiece.model
    run_status 3 init --output x --tokenizer-text nowhere
}

@test "without spm_train: the line that installs it" {
    echo text >text
    run_status 2 env PATH=/nowhere "$bin/init_model" --preset fashion-tiny --output x --tokenizer-text text
    said "apt-get install -y sentencepiece"
}

@test "options that exclude each other, folders that cannot be" {
    run_status 2 "$bin/init_model" --output x
    said "--preset or --config"
    run_status 2 init --output x --config y
    run_status 2 init --output x --tokenizer y --tokenizer-text z
    run_status 2 init --output x --vocab-size 40
    run_status 2 "$bin/init_model" --output x --preset huge
    : >file
    run_status 2 init --output file/x
    said "--output"
    echo '{' >broken.json
    run_status 3 "$bin/init_model" --config broken.json --output x
    said broken.json
    [ "${WITH_TEXT:-1}" = 1 ] || return 0
    run_status 3 init --output x --tokenizer nowhere
    said nowhere
}
