#!/bin/sh
# The tests of model/, tokenizer/ and data/ on arm64. Debian's cross compiler builds them with Debian's arm64 packages,
# which are unpacked in build/arm64/sysroot, and qemu-user runs them in three minutes. The tests that train for long are
# left out. tests/tools.sh runs this script. If something is missing, the exit status is 77, and the reason is printed.
# Debian, Ubuntu: apt-get install gcc-aarch64-linux-gnu qemu-user
cd "$(dirname "$0")/.." || exit 1
arm=$PWD/build/arm64 lib=$PWD/build/arm64/sysroot/usr/lib/aarch64-linux-gnu
tests='test_ops test_model test_checkpoint test_processor test_tokenizer test_template test_example test_label
       test_numbers test_files test_page test_corpus test_hostile'
for tool in aarch64-linux-gnu-gcc qemu-aarch64 apt-get dpkg; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done

# apt-get with lists of its own for arm64: the system's stay as they are.
apt_arm64() {
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::lists="$arm/apt" \
        -o Dir::Cache="$arm/apt" -o Dir::State::status="$arm/apt/status" "$@"
}
fetch() {
    rm -rf "$arm/apt" && mkdir -p "$arm/apt/partial" "$arm/apt/archives/partial" && : >"$arm/apt/status" &&
    cd "$arm/apt" && apt_arm64 update && apt_arm64 download libopenblas0-pthread libopenblas-pthread-dev libcjson1 \
        libcjson-dev libgomp1 libgfortran5 &&
    for package in *.deb; do dpkg -x "$package" "$arm/unpacked" || return; done && mv "$arm/unpacked" "$arm/sysroot"
}
mkdir -p "$arm/run"
[ -d "$arm/sysroot" ] || (fetch) >"$arm/log" 2>&1 || { echo "Debian's arm64 packages: see build/arm64/log"; exit 77; }
[ "$1" != ready ] || exit 0

# Programs look for their libraries where they were linked, and libraries for others there, too.
export PKG_CONFIG_SYSROOT_DIR="$arm/sysroot" PKG_CONFIG_LIBDIR="$lib/openblas-pthread/pkgconfig:$lib/pkgconfig"
${MAKE:-make} --no-print-directory -j "$(nproc)" build-tests T="$tests" BUILD=build/arm64 CC=aarch64-linux-gnu-gcc \
    SYSTEM='Linux aarch64' ARCH=armv8-a \
    OPENMP_LIBS="-fopenmp -Wl,--disable-new-dtags,-rpath,$lib:$lib/openblas-pthread" || exit 1

# A script in build/arm64/run for each program, so that shells and tests can start it.
ln -sf ../blas.so "$arm/run"
for program in train train_unmasked $tests; do
    cat >"$arm/run/$program" <<END
#!/bin/sh
exec "$(command -v qemu-aarch64)" -L /usr/aarch64-linux-gnu -0 "\$0" "$arm/$program" "\$@"
END
    chmod +x "$arm/run/$program"
done
export OMP_WAIT_POLICY=passive                 # no program starts itself again, without qemu
# shellcheck disable=SC2086
TRAIN=$arm/run/train sh tests/run.sh $(printf "$arm/run/%s " $tests)
