# Shared by the bats files: where the programs are, a scratch folder, and a shop with everything that real shops have.
root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
case ${BUILD:=build} in /*) bin=$BUILD/bin ;; *) bin=$root/$BUILD/bin ;; esac
photos=$BATS_TEST_DIRNAME/photos

setup() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/blip2-cli.XXXXXX")
    cd "$work"
}

teardown() {
    cd /
    rm -rf "$work"
}

# run_status CODE command...: runs it, shows what it said when the exit status is another.
run_status() {
    local want=$1
    shift
    run "$@"
    if [ "$status" != "$want" ]; then
        echo "exit status $status, expected $want: $*"
        echo "$output"
        return 1
    fi
}

said() {
    case $output in *"$1"*) return 0 ;; esac
    echo "not said: $1"
    echo "$output"
    return 1
}

holds() { grep -q -F -e "$2" "$1" || { echo "$1 does not hold: $2" && cat "$1" && return 1; }; }
lacks() { ! grep -q -F -e "$2" "$1" || { echo "$1 holds: $2" && return 1; }; }

# photo FROM ID: a copy with a comment of its own, so that no two are the same file.
photo() {
    { printf '\377\330\377\376\000\006%s' "$2"; tail -c +3 "$photos/$1"; } >"shop/images/$2.jpg"
}

style() {
    printf '{"notification":{},"meta":{"code":200},"data":{"id":%s,"articleAttributes":%s,"productDescriptors":%s}}\n' \
        "$1" "$2" "${3:-{\}}" >"shop/styles/$1.json"
}

# Fourteen products: whole ones, and every quirk of the layout.
make_shop() {
    [ "${WITH_IMAGE:-1}" = 1 ] || skip "built with WITH_IMAGE=0"
    mkdir -p shop/images shop/styles
    cat >shop/styles.csv <<'EOF'
id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName
1001,Men,Apparel,Topwear,Tshirts,Blue,Summer,2012,Casual,Blue Tshirt
1002,Men,Apparel,Topwear,Shirts,White,Fall,2011,Formal,"Shirt, white, ""slim"""
1003,Men,Apparel,Topwear,Tshirts,Red,Summer,2012,Casual,Red Tshirt, pack of two
1004,Men,Apparel,Topwear,Tshirts,Green,Summer,2012,Casual,No photo at all
1005,Men,Apparel,Topwear,Shirts,Black,Fall,2011,Casual,Photo is missing
1006,Women,Apparel,Topwear,Tshirts,Pink,Summer,2012,Casual,No attributes
1007,Men,Apparel,Topwear,Shirts,Grey,Fall,2011,Casual,Grey photo
1008,Men,Apparel,Topwear,Tshirts,Navy Blue,Summer,2012,Casual,Wide photo
1009,Men,Accessories,Watches,Watches,Black,Winter,2016,Casual,A watch
1010,Men,Apparel,Topwear,Tshirts,,Summer,,,Hardly anything
1011,Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,Broken data
1012,Men,Apparel,Topwear,Tshirts,Blue,Summer,2012,Casual,Same photo as the first
1013,Men,Apparel,Topwear,Tshirts,Blue,Summer,2012,Casual,Photo is no photo
1014,Men,Apparel,Topwear,Tshirts,Blue,Summer,2012,Casual,No data
EOF
    { echo filename,link
      for i in 1001 1002 1003 1005 1006 1007 1008 1009 1010 1011 1012 1013 1014; do echo "$i.jpg,http://shop/$i.jpg"; done
      echo 1004.jpg,undefined
    } >shop/images.csv
    for i in 1001 1002 1003 1006 1009 1010 1011 1014; do photo shirt.jpg $i; done
    photo grey.jpg 1007
    photo wide.jpg 1008
    cp shop/images/1001.jpg shop/images/1012.jpg
    echo 'this is text' >shop/images/1013.jpg
    local all='"Fabric":"Cotton","Fit":"Regular Fit","Pattern":"Solid","Sleeve Length":"Short Sleeves","Sleeve Styling":"Regular Sleeves"'
    style 1001 "{$all,\"Neck\":\"Round Neck\"}" '{"description":{"descriptorType":"description","value":"<p>Soft &amp; blue<br />tee</p>"}}'
    style 1002 "{$all,\"Collar\":\"Spread Collar\"}"
    style 1003 "{$all,\"Neck\":\"Polo\"}"
    style 1004 "{$all}"
    style 1005 "{$all}"
    style 1006 '[]'
    style 1007 "{$all,\"Collar\":\"Button Down\"}"
    style 1008 "{$all,\"Neck\":\"V-Neck\"}"
    style 1009 '{}'
    style 1010 '{"Fabric":"NA","Fit":"","Neck":"Round Neck"}'
    printf '{"data": {"articleAttributes": {"Fabric": "Cot' >shop/styles/1011.json
    style 1012 "{$all,\"Neck\":\"Round Neck\"}"
    style 1013 "{$all}"
}

# The tiny model that the golden tests use, and its photos and rows.
golden=$root/tests/golden
model=$golden/old/model
need_whole_build() {
    [ "${WITH_IMAGE:-1}" = 1 ] || skip "built with WITH_IMAGE=0"
    [ "${WITH_TEXT:-1}" = 1 ] || skip "built with WITH_TEXT=0"
}
