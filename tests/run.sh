#!/bin/sh
# Runs test programs, one after the other, and adds up what they report in their last line. Exit status 1 if any failed.
export GOMP_SPINCOUNT=1000 KMP_BLOCKTIME=0    # as ./train sets it for itself
# With SAN=1: another status than 1, which a program that rightly ends with an error has.
export ASAN_OPTIONS="exitcode=23:$ASAN_OPTIONS" UBSAN_OPTIONS="exitcode=23:$UBSAN_OPTIONS"
passed=0 failed=0 skipped=0 refused=0
for program in "$@"; do
    echo "== $(basename "$program")"
    output=$(mktemp)
    "$program" >"$output" 2>&1
    status=$?
    grep -v '^[0-9]* passed, [0-9]* failed, [0-9]* skipped$' "$output"
    last=$(tail -n 1 "$output")
    n=$(sed -n 's/^ *bad inputs refused: //p' "$output")
    refused=$((refused + ${n:-0}))
    rm -f "$output"
    case "$last" in
        *" passed, "*" failed, "*" skipped")
            set_passed=${last%% passed*} rest=${last#*passed, }
            passed=$((passed + set_passed))
            failed=$((failed + ${rest%% failed*}))
            rest=${rest#*failed, }
            skipped=$((skipped + ${rest%% skipped*})) ;;
        *)  echo "FAIL $program ended with status $status before its report"
            failed=$((failed + 1)) ;;
    esac
done
echo "$refused bad inputs refused, each with the message expected"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
