#!/bin/sh
# What make does on a Mac with Homebrew. uname, the compilers, pkg-config and brew are stand-ins, and nothing is built:
# it shows which flags make composes, and what it asks Homebrew for. tests/tools.sh runs it.
cd "$(dirname "$0")/.." || exit 1
mac=$PWD/build/mac status=0
rm -rf "$mac"
mkdir -p "$mac/bin" "$mac/brew/bin"
# Nothing else is on PATH: a Mac has no apt-get.
for tool in make sh mkdir id grep; do ln -s "$(command -v $tool)" "$mac/bin/$tool"; done

# stand_in FILE: a program that runs the lines of the standard input.
stand_in() {
    { echo '#!/bin/sh'; cat; } >"$mac/$1"
    chmod +x "$mac/$1"
}
stand_in bin/uname <<'END'
echo "Darwin $MACHINE"
END
stand_in bin/brew <<END
if [ "\$1" = --prefix ]; then echo "$mac/brew"; else echo "brew \$*"; fi
END
# Apple's clang is also called gcc, and refuses -fopenmp, if it does not come from -Xpreprocessor.
stand_in bin/gcc <<'END'
case "$*" in
    --version) echo 'Apple clang version 16.0.0 (clang-1600.0.26.6)'; echo 'Target: arm64-apple-darwin24.1.0' ;;
    *-Xpreprocessor*) ;;
    *) exit 1 ;;
esac
END
# FOUND: what is installed. OpenBLAS is found in Homebrew's own folder for it.
stand_in pkg-config <<END
shift
for package; do
    case "\$package of \$FOUND in \$PKG_CONFIG_PATH" in
        libcjson\ of*libcjson*in* | openblas\ of*openblas*in*"$mac/brew/opt/openblas/lib/pkgconfig") ;;
        *) exit 1 ;;
    esac
done
END
mac_make() { env -i PATH="$mac/bin" MACHINE="${machine:-arm64}" FOUND="$found" make --no-print-directory "$@" 2>&1; }

# expect WHAT WANTED UNWANTED: $output has a line with the one and none with the other (basic regular expressions).
expect() {
    if echo "$output" | grep -q -- "$2" && ! echo "$output" | grep -q -- "${3:-no such text}"; then echo "ok   $1"
    else echo "FAIL $1: wanted: $2, unwanted: $3. make printed:"; echo "$output"; status=1; fi
}

output=$(mac_make deps)
expect 'deps on a new Mac' '^brew install libomp pkgconf openblas cjson$'

for n in 9 14 15; do
    stand_in brew/bin/gcc-$n <<END
[ "\$*" != --version ] || echo 'gcc-$n (Homebrew GCC $n.2.0) $n.2.0'
END
done
mkdir -p "$mac/brew/opt/libomp"
mv "$mac/pkg-config" "$mac/bin"
found=openblas output=$(mac_make deps)
expect 'deps with libomp and OpenBLAS' '^brew install cjson$'
found='openblas libcjson' output=$(mac_make deps; echo end)
expect 'deps with all of it' '^end$' .....

output=$(mac_make -nB train)
expect 'Apple clang: compiles' \
    "gcc -std=c11 .* -Xpreprocessor -fopenmp -I$mac/brew/opt/libomp/include .*-o build/gcc/train.o train.c" -march
expect 'Apple clang: links' "gcc .*-o build/gcc/train .* -L$mac/brew/opt/libomp/lib -lomp" 'lomp.*-fopenmp'
output=$(machine=x86_64 && mac_make -nB train)
expect 'Apple clang: on an Intel Mac' '-mprefer-vector-width=512 .*-Xpreprocessor -fopenmp .*-march=native'
output=$(mac_make -nB train "CC=$mac/brew/bin/gcc-14")
expect 'gcc-14 wanted: compiles' 'brew/bin/gcc-14 -std=c11 .*-fopenmp .*-o build/gcc-14/train.o' '-Xpreprocessor\|-lomp'

rm -r "$mac/brew/opt/libomp"
output=$(mac_make -nB train)
expect 'newest gcc: compiles' 'brew/bin/gcc-15 -std=c11 .*-fopenmp .*-o build/gcc-15/train.o' '-Xpreprocessor\|-march'
expect 'newest gcc: links' 'brew/bin/gcc-15 .*-o build/gcc-15/train .*-fopenmp' '-lomp'
output=$(mac_make deps; echo end)
expect 'deps with the newest gcc' '^end$' .....

rm "$mac/bin/brew"
found='' output=$(mac_make deps)
expect 'deps without Homebrew' 'please install .*https://brew.sh'
exit $status
