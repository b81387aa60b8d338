#!/bin/sh
# make check: the rules of the tree. A room is a folder (or train.c). It may include only headers of rooms above it in
# this list, and it has a largest number of lines: the program stays minimal. No line is wider than 120 columns. Prints
# the rooms, and what breaks a rule.
cd "$(dirname "$0")/.." || exit 1
status=0
say() { echo "check: $*"; status=1; }

# room, most lines of .c and .h (the generated unicode.c apart), headers that it may include from other rooms
rooms='model         6590
tokenizer     3270  model/base.h model/gguf.h
data/template 3420  model/base.h tokenizer/unicode.h
data/rows     1840  model/base.h model/work.h tokenizer/tokenizer.h data/template/template.h
data/run      2830  model/* tokenizer/tokenizer.h data/template/template.h data/rows/*
data/report   3020  model/* tokenizer/tokenizer.h data/template/template.h data/rows/* data/run/*
.             520   model/* tokenizer/tokenizer.h data/template/template.h data/rows/* data/run/* data/report/*'
all=21440

# The includes of other rooms in a room's files: "FILE:LINE HEADER", the header's path from the top.
includes() {
    grep -n '#include ".*/' /dev/null "$1"/*.[ch] |
    sed 's/^\.\///; s/^\([^:]*:[0-9]*\):#include "\(.*\)".*/\1 \2/' |
    while read -r place header; do
        case $1 in
            .) path=$header ;;
            */*) path=${header#../../} ;;
            *) path=${header#../} ;;
        esac
        case $path in ../*) path=data/${path#../} ;; esac
        echo "$place $path"
    done
}

echo "$rooms" | {
    sum=0
    printf '%-14s %6s %6s  %s\n' folder lines most includes
    while read -r room most allowed; do
        lines=$(cat "$room"/*.[ch] | wc -l)
        [ "$room" = tokenizer ] && lines=$((lines - $(wc -l <tokenizer/unicode.c)))
        sum=$((sum + lines))
        used=$(includes "$room" | sed 's/.* //; s/\/[^/]*$//' | sort -u | tr '\n' ' ')
        printf '%-14s %6d %6d  %s\n' "$([ "$room" = . ] && echo train.c || echo "$room")" "$lines" "$most" "$used"
        [ "$lines" -le "$most" ] || say "$room has $lines lines, more than its $most"
        bad=$(includes "$room" | while read -r place path; do
            set -f
            for a in $allowed; do
                # shellcheck disable=SC2254
                case $path in $a) continue 2 ;; esac
            done
            echo "check: $place: $room must not include $path"
        done)
        [ -z "$bad" ] || { echo "$bad"; status=1; }
    done
    printf '%-14s %6d %6d\n' all "$sum" $all
    [ "$sum" -le $all ] || say "$sum lines, more than $all"

    blas=$(grep -ln cblas model/*.c tokenizer/*.c data/*/*.c train.c | grep -v '^model/ops.c$')
    [ -z "$blas" ] || say "$blas: only model/ops.c may know BLAS"

    # Columns are characters: the bytes of UTF-8 that continue a character do not count.
    files=$(git ls-files '*.[ch]' '*.sh' '*.py' '*.mjs' '*.css' '*.js' Makefile 2>/dev/null)
    wide=$(echo "$files" | grep -v 'tokenizer/unicode.c' | while read -r f; do
        LC_ALL=C awk -v f="$f" '{ line = $0; gsub(/[\200-\277]/, "", line) }
            length(line) > 120 { print f ":" FNR ": " length(line) " columns" }' "$f"
    done)
    [ -z "$wide" ] || say "wider than 120 columns:
$wide"
    exit $status
}
