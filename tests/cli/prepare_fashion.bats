#!/usr/bin/env bats
# prepare_fashion on a hand-made shop with every quirk that the layout has.
load cli_helper

prepare() { "$bin/prepare_fashion" --data shop --out rows --max-bad 50 "$@"; }
ids() { tail -n +2 "$1" | cut -d , -f 1 | sort -u; }
questions() { tail -n +2 rows/vqa_train.csv rows/vqa_test.csv | grep , | cut -d , -f 2 | sort -u; }

@test "the shirts' eight questions, word for word" {
    make_shop
    prepare
    cat >expected <<'EOF'
What is the Fit of the shirt in this picture?
What is the collar of the shirt in this picture?
What is the colour of the shirt in this picture?
What is the fabric of the shirt in this picture?
What is the neck type of the shirt in this picture?
What is the pattern of the shirt in this picture?
What is the sleeve length of the shirt in this picture?
What is the sleeve styling of the shirt in this picture?
EOF
    questions | LC_ALL=C sort >found
    diff expected found
}

@test "rows are id, Question, Answer with the attribute in front of the value" {
    make_shop
    prepare
    [ "$(head -n 1 rows/vqa_train.csv)" = "id,Question,Answer" ]
    [ "$(head -n 1 rows/vqa_test.csv)" = "id,Question,Answer" ]
    cat rows/*.csv >all
    holds all "1002,What is the collar of the shirt in this picture?,Collar: Spread Collar"
    holds all "1008,What is the colour of the shirt in this picture?,baseColour: Navy Blue"
    holds all "1001,What is the neck type of the shirt in this picture?,Neck: Round Neck"
}

@test "every product without a usable photo or data is left out, and named" {
    make_shop
    prepare >said 2>&1
    for i in 1004 1005 1009 1011 1013 1014; do lacks rows/vqa_train.csv "$i," && lacks rows/vqa_test.csv "$i,"; done
    for f in images/1005.jpg styles/1011.json images/1013.jpg styles/1014.json; do holds said "$f" && holds rows/report.json "$f"; done
    holds said "line 12"
    holds rows/report.json '"wanted": 13, "kept": 8'
    holds rows/report.json '"no photo (images.csv: undefined)": 1'
    holds rows/report.json '"no photo (file missing)": 1'
    holds rows/report.json '"unreadable photo": 1'
    holds rows/report.json '"broken styles/ID.json": 1'
    holds rows/report.json '"no styles/ID.json": 1'
    holds rows/report.json '"other_article_types": 1'
}

@test "a row with surplus commas is repaired, or skipped" {
    make_shop
    prepare
    holds rows/report.json '"repaired": 1, "skipped": 0'
    cat rows/*.csv | grep -q '^1003,'
    prepare --repair skip
    holds rows/report.json '"repaired": 0, "skipped": 1'
    ! cat rows/*.csv | grep -q '^1003,'
}

@test "no photo is on both sides, twins included" {
    make_shop
    for seed in 1 2 3 4 5 6 7 8; do
        prepare --seed $seed --test-fraction 0.4
        ids rows/vqa_train.csv >train
        ids rows/vqa_test.csv >test
        [ -z "$(comm -12 train test)" ]
        [ -s train ] && [ -s test ]
        holds rows/report.json '"leakage": {"products": 0, "photos": 0}'
        holds rows/report.json '"duplicate_photos": [["1001", "1012"]]'
        if grep -q 1001 train; then grep -q 1012 train; else grep -q 1012 test; fi
    done
}

@test "the division depends on the seed, and on nothing else" {
    make_shop
    prepare --seed 5 --threads 1 && mv rows first
    prepare --seed 5 --threads 4
    diff -r first rows
    for seed in 6 7 8 9; do
        prepare --seed $seed
        cmp -s first/vqa_test.csv rows/vqa_test.csv || return 0
    done
    return 1
}

@test "missing values: no row, or NA where the article type has the attribute elsewhere" {
    make_shop
    prepare
    cat rows/*.csv >all
    ! grep -q '^1010,.*fabric' all
    grep -q '^1010,.*Neck: Round Neck' all
    ! grep -q '^1006,.*Fabric' all
    prepare --missing NA
    cat rows/*.csv >all
    holds all '1010,What is the fabric of the shirt in this picture?,Fabric: NA'
    holds all '1006,What is the neck type of the shirt in this picture?,Neck: NA'
    holds all '1010,What is the colour of the shirt in this picture?,baseColour: NA'
    ! grep -q '^1010,.*Collar' all
    holds all '1002,What is the collar of the shirt in this picture?,Collar: Spread Collar'
    ! grep -q '^1002,.*Neck' all
}

@test "the taxonomy counts training rows only" {
    make_shop
    prepare --test-fraction 0.3
    for word in Fabric Neck baseColour; do
        grep -o "$word: .*" rows/vqa_train.csv | sort | uniq -c | while read -r n answer; do
            holds rows/taxonomy.json "\"${answer#*: }\": $n"
        done
    done
    sed 's/.*: //' rows/vqa_train.csv >values
    grep -o '"[^"]*": [0-9][0-9]*' rows/taxonomy.json | cut -d '"' -f 2 | while read -r v; do holds values "$v"; done
}

@test "the AWS sample's division: questions are split, colour is not trained" {
    make_shop
    prepare --preset aws-seed
    ! grep -q colour rows/vqa_train.csv
    ids rows/vqa_train.csv >train
    ids rows/vqa_test.csv >test
    [ -n "$(comm -12 train test)" ]
    lacks rows/report.json '"leakage": {"products": 0'
    ! cat rows/*.csv | grep -q '^1003,'
    # 1001 has seven answers: round(0.8*7) = 6 for training, its colour taken out of them where it is there.
    n=$(cat rows/*.csv | grep -c '^1001,')
    [ "$n" = 6 ] || [ "$n" = 7 ]
    [ "$(grep -c '^1001,' rows/vqa_test.csv)" = 1 ]
}

@test "other article types get the generic questions" {
    make_shop
    prepare --article-types all
    cat rows/*.csv >all
    holds all "1009,What is the article type of the product in this picture?,Article type: Watches"
    holds all "1002,What is the category of the product in this picture?,Category: Apparel"
    holds all "1001,What is the gender of the product in this picture?,Gender: Men"
    [ "$(questions | wc -l)" = 7 ]
}

@test "questions from a file, texts without markup" {
    make_shop
    cat >mine.json <<'EOF'
[{"attribute": "description", "source": "productDescriptors", "question": "Describe it.", "answer_prefix": "Text"},
 {"attribute": "season", "source": "styles.csv", "question": "Which season, then?", "answer_prefix": "Season"}]
EOF
    prepare --attributes mine.json
    cat rows/*.csv >all
    holds all '1001,Describe it.,Text: Soft & blue tee'
    holds all '1001,"Which season, then?",Season: Summer'
}

@test "captions for training photos only, in no answer's form" {
    make_shop
    prepare --article-types all --captions 7
    [ "$(head -n 1 rows/captions_train.csv)" = "id,Caption" ]
    ids rows/captions_train.csv >with
    ids rows/vqa_train.csv >train
    diff with train
    [ "$(grep -c -F Tshirts rows/captions_train.csv)" -ge 7 ]
    [ "$(tail -n +2 rows/captions_train.csv | wc -l)" = $((7 * $(wc -l <train))) ]
    ! grep -q -E 'Article type:|Category:' rows/captions_train.csv
}

@test "too many bad products stop with 3" {
    make_shop
    run_status 3 "$bin/prepare_fashion" --data shop --out rows
    said "4 of 13 products are bad"
    said "images/1005.jpg"
    [ ! -e rows/vqa_train.csv ]
    run_status 0 "$bin/prepare_fashion" --data shop --out rows --max-bad 31
    run_status 3 "$bin/prepare_fashion" --data shop --out rows --max-bad 30
}

@test "missing and broken tables stop with 3" {
    make_shop
    mv shop/images.csv shop/x
    run_status 3 prepare
    said "images.csv"
    mv shop/x shop/images.csv
    sed -i 1s/articleType/kind/ shop/styles.csv
    run_status 3 prepare
    said 'no column "articleType"'
    sed -i 1s/kind/articleType/ shop/styles.csv
    sed -i 1s/baseColour/hue/ shop/styles.csv
    run_status 3 prepare
    said 'no column "baseColour"'
    : >shop/styles.csv
    run_status 3 prepare
    rm shop/styles.csv
    run_status 3 prepare
    said "styles.csv"
}

@test "limits and options that cannot be" {
    make_shop
    run_status 0 prepare --limit 2
    [ "$(cat rows/*.csv | grep -v '^id,' | cut -d , -f 1 | sort -u | wc -l)" = 2 ]
    run_status 2 prepare --limit 2x
    said '"2x" is not a whole number'
    run_status 2 prepare --test-fraction 1.5
    said "not between 0 and 1"
    run_status 2 prepare --split-by photo
    run_status 2 prepare --dat other
    said "unknown option"
    run_status 2 prepare --out
    run_status 2 prepare stray
    run_status 2 "$bin/prepare_fashion" --out rows
    said "--data is missing"
    run_status 2 prepare --test-only Colr
    said "Colr"
    echo '{"a": 1}' >mine.json
    run_status 2 prepare --attributes mine.json
    run_status 2 "$bin/prepare_fashion" --data shop --out shop/styles.csv/x
    said "--out"
}

@test "--fashion-mnist needs its files whole" {
    mkdir mnist
    run_status 3 "$bin/prepare_fashion" --fashion-mnist mnist --out rows
    said "train-images-idx3-ubyte"
    printf '\000\000\010\003\000\000\000\001\000\000\000\001\000\000\000\001x' | gzip >mnist/train-images-idx3-ubyte.gz
    run_status 3 "$bin/prepare_fashion" --fashion-mnist mnist --out rows
    said "not 60000 entries"
}

@test "Debian's Fashion-MNIST as a shop" {
    [ "${WITH_IMAGE:-1}" = 1 ] || skip "built with WITH_IMAGE=0"
    mnist=/usr/share/datasets/fashion-mnist
    [ -f $mnist/train-images-idx3-ubyte.gz ] || skip "dataset-fashion-mnist is not installed"
    run_status 0 "$bin/prepare_fashion" --fashion-mnist $mnist --data shop --out rows --limit 70
    said "training: 60 products, 180 rows; test: 10 products, 30 rows"
    [ "$(ls shop/images | wc -l)" = 70 ] && [ "$(ls shop/styles | wc -l)" = 70 ]
    holds shop/styles.csv "10000,,Footwear,Shoes,Ankle boot,,,,,"
    holds shop/split.csv "70000,test"
    holds rows/vqa_train.csv "10000,What is the article type of the product in this picture?,Article type: Ankle boot"
    [ "$(cut -d , -f 1 rows/vqa_test.csv | sort -u | head -n 1)" = 70000 ]
}
