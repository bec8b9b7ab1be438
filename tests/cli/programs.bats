#!/usr/bin/env bats
# What all programs do alike: --help, --version, options that cannot be, devices that are not there.
load cli_helper

programs="prepare_fashion init_model train_fashion vqa adapter"
# The fewest options with which each gets as far as its device.
start_of() {
    case $1 in
    train_fashion) echo --model "$model" --images x --eval y --output out ;;
    vqa) echo --model "$model" --image x ;;
    adapter) echo info --model "$model" ;;
    esac
}

@test "--help says what there is, and ends with 0" {
    for p in $programs; do
        run_status 0 "$bin/$p" --help
        said "usage: $p"
        said "--device"
        said "--threads"
        said "--version"
        said "Exit status: 0 done"
    done
}

@test "--version names program, library and version" {
    define() { sed -n "s/^#define BLIP2_VERSION_$1 *//p" "$root/include/blip2.h"; }
    for p in $programs; do
        run_status 0 "$bin/$p" --version
        [ "$output" = "$p (libblip2) $(define MAJOR).$(define MINOR).$(define PATCH)" ]
    done
}

@test "nothing at all, unknown and shortened options: 2, and a word where help is" {
    for p in $programs; do
        run_status 2 "$bin/$p"
        said "Try '$p --help'"
        run_status 2 "$bin/$p" --no-such-option
        said "--no-such-option: unknown option"
        run_status 2 "$bin/$p" --devic cpu
        said "--devic: unknown option"
        run_status 2 "$bin/$p" --vers
        run_status 2 "$bin/$p" -x
    done
}

@test "numbers are whole words inside their range" {
    for p in $programs; do
        for bad in '' x 1x 1.5 0x10 -1 1025 99999999999999999999; do
            run_status 2 "$bin/$p" --threads "$bad"
            said "--threads: "
        done
        run_status 2 "$bin/$p" --threads
        said "a value is missing"
    done
    for bad in '' x 1e 0.5x nan inf -1 1e9; do
        run_status 2 "$bin/train_fashion" --lr "$bad"
        said "--lr: "
    done
    run_status 2 "$bin/train_fashion" --shuffle maybe
    said "neither on nor off"
    run_status 2 "$bin/train_fashion" --recompute=maybe
    run_status 2 "$bin/train_fashion" --schedule square
    said "constant|linear|cosine"
}

@test "values may come as words of configuration files" {
    for yes in on true True yes 1 off false False no 0; do
        run_status 2 "$bin/train_fashion" --shuffle $yes
        said "--model is missing"
    done
}

@test "a device that is not there: 4" {
    for p in train_fashion vqa adapter; do
        run_status 4 "$bin/$p" $(start_of $p) --device nonsense
        said nonsense
    done
}

@test "a model that is not there: 3, with its name" {
    for p in train_fashion vqa adapter; do
        set -- $(start_of $p)
        run_status 3 "$bin/$p" "$@" --model nowhere
        said nowhere
    done
}

@test "output that cannot be written is an error" {
    [ -w /dev/full ] || skip "no /dev/full here"
    for p in prepare_fashion init_model train_fashion vqa adapter; do
        rc=0
        "$bin/$p" --help >/dev/full 2>said || rc=$?
        [ $rc = 1 ]
        holds said "$p: standard output cannot be written"
    done
    need_whole_build
    rc=0
    "$bin/vqa" --model "$model" --image "$golden/images/a.png" --question x --max-new-tokens 2 >/dev/full 2>said || rc=$?
    [ $rc = 1 ]
}
