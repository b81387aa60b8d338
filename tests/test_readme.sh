#!/bin/sh
# Runs the commands that README.md, configs/lab.md and configs/hunt/README.md give, in their order, in a copy of the
# tree, and compares what they print with the page. Usage: test_readme.sh BUILD [PAGE ...]: BUILD has make's objects.
#
# A block of code that names no language (text, json) holds commands, one on each line. After a line "$ COMMAND" comes
# what it prints: every line of the page must be in the output, in this order, and a line "…" says that some are left
# out. Numbers with a point may differ by a quarter, or by 0.05: other processors round differently. What chat and
# sample print differs more: a line of one word must be one word, and a line of several words must be several. In a row
# of a table every `./train ...` is run, and the code behind it must be in its output. If the row ends with a text in
# quotes, the last command must print a line of several words.
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
[ $# -gt 0 ] || set -- README.md configs/lab.md configs/hunt/README.md
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT INT TERM
mkdir -p "$dir/tree/build" "$dir/commands"
cp -Rp Makefile train.c train model data tokenizer tests configs README.md "$dir/tree" || exit 1
cp -Rp "$build" "$dir/tree/build" || exit 1

# Every command gets a number N and two to four files: N.run, N.place, N.lines (what it prints), N.holds (a part of it).
awk -v out="$dir/commands/" '
    function command(text) {
        close(name)
        name = sprintf("%s%03d", out, ++n)
        print text >(name ".run")
        print FILENAME ":" FNR >(name ".place")
    }
    /^```/ { fenced = !fenced; inside = first = fenced && /^```$/; next }
    inside && first {
        first = 0
        runs = /^(\.\/train |make|sed |cp |cmp |grep )/
        shown = /^\$ /
        if (!runs && !shown) command("echo not a command, and the block names no language; false")
    }
    inside && shown && /^\$ / { command(substr($0, 3)); next }
    inside && shown { if ($0 != "") print >(name ".lines"); next }
    inside && runs && !/^ *(#|$)/ { command($0); next }
    !fenced && /^\|.*`\.\/train / {
        gsub(/\\\|/, "|")                                   # as a table writes |
        parts = split($0, part, "`")
        for (i = 2; i <= parts; i += 2)
            if (part[i] ~ /^\.\/train /) { command(part[i]); ran = i }
            else if (ran) print part[i] >(name ".holds")
        if (part[parts] ~ /".*" *\|$/) print "two words" >(name ".lines")
        ran = 0
    }' "$@"

# Prints the first line of the page that is missing in the output.
missing() {                                                # lines of the page, output, "words" for chat and sample
    awk -v words="$3" '
        function bare(w) { gsub(/^[(]+|[),.:;%]+$/, "", w); return w }
        function same(a, b,   x, y, n, i, p, q) {
            n = split(a, x, " ")
            if (words) return (n > 1) == (split(b, y, " ") > 1)
            if (n != split(b, y, " ")) return 0
            for (i = 1; i <= n; i++) {
                p = bare(x[i]); q = bare(y[i])
                if (x[i] == y[i]) continue
                if (p !~ /^-?[0-9]+\.[0-9]+(e-?[0-9]+)?$/ || q !~ /^-?[0-9]/) return 0
                if (p - q > 0.05 + 0.25 * p || q - p > 0.05 + 0.25 * p) return 0
            }
            return 1
        }
        FNR == NR { if ($0 != "…") want[++n] = $0; next }
        at < n && same(want[at + 1], $0) { at++ }
        END { if (at < n) print want[at + 1] }' "$1" "$2"
}

passed=0 failed=0 skipped=0
for file in "$dir"/commands/*.run; do
    name=${file%.run}
    command=$(cat "$file") why=
    case $command in
        "make parity"*) skip="it needs the network" ;;
        "make base"*) skip="it takes 15 minutes" ;;
        "make test"* | "make fuzz"* | "make bench"* | "make tools"*) skip="it is a test of its own" ;;
        *stories260K* | *chats.jsonl*) skip="it needs a file that the reader brings" ;;
        *) skip= ;;
    esac
    if [ -n "$skip" ]; then
        echo "skip $command: $skip"
        skipped=$((skipped + 1))
        continue
    fi
    (cd "$dir/tree" && sh -c "$command") >"$name.out" 2>&1 </dev/null
    status=$?
    [ $status = 0 ] || [ -e "$name.holds" ] || why="exit status $status"
    if [ -e "$name.lines" ]; then
        case $command in *"train chat "* | *"train sample "*) words=words ;; *) words= ;; esac
        line=$(missing "$name.lines" "$name.out" $words)
        [ -z "$line" ] || why="the output has no line: $line"
    fi
    [ ! -e "$name.holds" ] || while read -r text; do
        grep -qF -- "$text" "$name.out" || why="the output does not hold: $text"
    done <"$name.holds"
    if [ -z "$why" ]; then
        echo "ok   $command"
        passed=$((passed + 1))
    else
        printf 'FAIL %s: %s: %s\n' "$(cat "$name.place")" "$command" "$why"
        tail -n 5 "$name.out" | sed 's/^/     /'
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
