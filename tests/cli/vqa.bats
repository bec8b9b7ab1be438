#!/usr/bin/env bats
# vqa on the golden tests' tiny model.
load cli_helper

a=$golden/images/a.png b=$golden/images/b.png
ask() { "$bin/vqa" --model "$model" --max-new-tokens 8 "$@"; }

@test "one photo, one question: the answer alone; the same twice" {
    need_whole_build
    run_status 0 ask --image "$a" --question "which colour?"
    first=$output
    [ "$(echo "$first" | wc -l)" = 1 ]
    run_status 0 ask --image "$a" --question "which colour?" --threads 2
    [ "$output" = "$first" ]
}

@test "every question meets every photo, as JSON lines in order" {
    need_whole_build
    ask --json --image "$a" "$b" --question one two --image "$a" --question three >lines
    [ "$(wc -l <lines)" = 9 ]
    for key in image question answer tokens logprob; do [ "$(grep -c "\"$key\": " lines)" = 9 ]; done
    [ "$(sed 's/.*"image": "\([^"]*\)".*/\1/' lines | uniq | tr '\n' ' ')" = "$a $b $a " ]
    [ "$(head -n 3 lines | sed 's/.*"question": "\([^"]*\)".*/\1/' | tr '\n' ' ')" = "one two three " ]
    [ "$(sed -n 1,3p lines)" = "$(sed -n 7,9p lines)" ]
    sed 's/.*"logprob": //; s/}$//' lines | awk '!($1 < 0) { bad++ } END { exit bad > 0 }'
}

@test "the answers do not depend on company or batch size" {
    need_whole_build
    tokens() { sed 's/, "logprob".*//'; }
    for i in "$a" "$b"; do for q in "which colour?" "what is the article type of the thing in this photo?" x; do
        ask --json --image "$i" --question "$q"
    done; done | tokens >single
    for n in 1 2 5 32; do
        ask --json --image "$a" "$b" --question "which colour?" "what is the article type of the thing in this photo?" x \
            --batch-size $n | tokens >together
        diff single together
    done
}

@test "questions from a file" {
    need_whole_build
    printf 'which colour?\r\n\n  \nx\n' >questions
    ask --json --image "$a" --questions questions >file
    ask --json --image "$a" --question "which colour?" x >line
    diff file line
    : >empty
    run_status 3 ask --image "$a" --questions empty
    run_status 3 ask --image "$a" --questions nowhere
    said nowhere
}

@test "the template: default, given, none" {
    need_whole_build
    ids() { sed 's/.*"answer"//'; }
    ask --json --image "$a" --question "which colour?" | ids >plain
    ask --json --image "$a" --question "which colour?" --prompt-template "Question: {} Answer: " | ids >given
    ask --json --image "$a" --question "Question: which colour? Answer: " --raw-prompt | ids >raw
    diff plain given
    diff plain raw
    run_status 2 ask --image "$a" --question x --prompt-template "no place"
    run_status 2 ask --image "$a" --question x --prompt-template "{}" --raw-prompt
}

@test "a question that brings the template along is warned of" {
    need_whole_build
    ask --image "$a" --question "Question: which colour? Answer:" 2>warned
    holds warned 'begins with "Question:"'
    ask --image "$a" --question "Question: which colour? Answer:" --raw-prompt 2>warned
    [ ! -s warned ]
}

@test "no question: a caption" {
    need_whole_build
    ask --json --image "$a" >caption
    holds caption '"question": null'
    [ "$(wc -l <caption)" = 1 ]
}

@test "limits of the answer's length" {
    need_whole_build
    count() { sed 's/.*"tokens": \[//; s/\].*//' | tr ',' '\n' | wc -l; }
    [ "$(ask --json --image "$a" --question x --max-new-tokens 3 --min-new-tokens 3 | count)" = 3 ]
    [ "$(ask --json --image "$a" --question x --max-new-tokens 1 | count)" = 1 ]
    run_status 2 ask --image "$a" --min-new-tokens 9
}

@test "the plan needs no photo and tells bytes" {
    need_whole_build
    run_status 0 ask --plan
    said total
    ask --plan --json >plan
    awk -F '[:,}]' '{ exit !($2 + $4 + $6 + $8 == $10 && $10 > 0) }' plan
}

@test "the trace holds every stage" {
    need_whole_build
    run_status 0 ask --image "$a" --question "which colour?" --trace trace.safetensors
    for t in pixel_values vit qformer projection encoder logits; do grep -a -q "\"$t\":{\"dtype\":\"F32\"" trace.safetensors; done
    run_status 2 ask --image "$a" --question x y --trace t
    run_status 2 ask --image "$a" "$b" --question x --trace t
}

@test "an adapter changes the answers' probabilities" {
    need_whole_build
    ask --json --image "$a" --question "which colour?" >base
    ask --json --image "$a" --question "which colour?" --adapter "$golden/old/adapter" >adapted
    ! diff -q base adapted
    run_status 3 ask --image "$a" --adapter nowhere
    said nowhere
}

@test "bad photos: 3, with their name" {
    need_whole_build
    echo text >bad.jpg
    run_status 3 ask --image bad.jpg --question x
    said bad.jpg
    run_status 3 ask --image nowhere.jpg --question x
    said nowhere.jpg
    head -c 60 "$a" >cut.png
    run_status 3 ask --image cut.png --question x
    said cut.png
}

@test "no photo, unknown dtype: 2" {
    run_status 2 ask
    said "--image is missing"
    run_status 2 ask --image "$a" --dtype int3
    said "int3"
}
