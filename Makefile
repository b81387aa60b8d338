# sft.c
#   make            builds ./train
#   make deps       installs what that needs (apt-get, dnf or brew), if anything is missing
#   make test       builds and runs all tests; prints how many passed, failed and were skipped
#   make bench      speed of training steps and of tokenizers; PEER=1: beside PyTorch's and Hugging Face's
#   make check      the rules of the tree: which part may include which
#   make clean
# Settings:
#   CC=clang        another compiler (gcc and clang are tested)
#   SAN=1           address and undefined-behaviour sanitizers, in a build of its own
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
CFLAGS ?= -O3 -march=native
PKGS    = openblas libcjson
SAN     =

# Homebrew keeps OpenBLAS where pkg-config does not look.
export PKG_CONFIG_PATH := $(PKG_CONFIG_PATH):/opt/homebrew/opt/openblas/lib/pkgconfig:/usr/local/opt/openblas/lib/pkgconfig

BUILD   := build/$(notdir $(firstword $(CC)))$(if $(SAN),-san)
STRICT   = -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -fno-fast-math -ffp-contract=fast -fopenmp
comma   := ,
SANITIZE = $(if $(SAN),-g -O1 -fsanitize=address$(comma)undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
COMPILE  = $(CC) $(STRICT) $(CFLAGS) $(SANITIZE) $$(pkg-config --cflags $(PKGS)) -MMD -MP
LINK     = $(CC) -fopenmp $(SANITIZE) -o $@ $^ $$(pkg-config --libs $(PKGS)) -lm

PARTS   := $(patsubst %.c,%,$(wildcard model/*.c tokenizer/*.c data/*.c data/jinja/*.c))
OBJECTS := $(PARTS:%=$(BUILD)/%.o)
TESTS   := $(patsubst tests/%.c,$(BUILD)/%,$(wildcard tests/test_*.c))

train: $(BUILD)/train
	@cp $< $@

$(BUILD)/train: $(BUILD)/train.o $(OBJECTS)
	@echo "  link $@"; $(LINK)

$(BUILD)/test_%: $(BUILD)/tests/test_%.o $(OBJECTS)
	@echo "  link $@"; $(LINK)

$(BUILD)/bench_%: $(BUILD)/tests/bench_%.o $(OBJECTS)
	@echo "  link $@"; $(LINK)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  $(firstword $(CC)) $<"; $(COMPILE) -c -o $@ $<

-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d $(BUILD)/*/*/*.d)

# The tests run the program too, so they get the one of their own build.
test: deps
	@$(MAKE) --no-print-directory -j 2 check build-tests
	@TRAIN=$(BUILD)/train sh tests/run.sh $(TESTS)

build-tests: $(BUILD)/train $(TESTS)

bench: $(BUILD)/bench_step $(BUILD)/bench_tokenizer
	@sh tests/bench.sh $(BUILD)

# model/ sees numbers only, tokenizer/ only model/base.h, and only ops.c and optim's loops know BLAS and threads.
check:
	@! grep -n '#include "\.\./\(data\|tokenizer\)' model/*.[ch]
	@! grep -n '#include "\.\./' tokenizer/*.[ch] | grep -v 'model/base.h'
	@! grep -ln 'cblas' model/*.c tokenizer/*.c data/*.c train.c | grep -v 'model/ops.c'

NEEDED   = command -v $(CC) >/dev/null && command -v pkg-config >/dev/null && pkg-config --exists $(PKGS) && \
           echo '\#include <omp.h>' | $(CC) -fopenmp -E - >/dev/null 2>&1
AS_ROOT  = $$([ $$(id -u) = 0 ] || echo sudo)
COMPILER = $(if $(findstring clang,$(CC)),clang libomp-dev,gcc libc6-dev)

deps:
	@if $(NEEDED); then :; \
	elif command -v apt-get >/dev/null; then \
	  $(AS_ROOT) apt-get update -q && DEBIAN_FRONTEND=noninteractive $(AS_ROOT) apt-get install -qy $(COMPILER) pkg-config libopenblas-dev libcjson-dev; \
	elif command -v dnf >/dev/null; then \
	  $(AS_ROOT) dnf install -y $(firstword $(CC)) $(if $(findstring clang,$(CC)),libomp-devel) pkgconf-pkg-config openblas-devel cjson-devel; \
	elif command -v brew >/dev/null; then \
	  brew install gcc pkg-config openblas cjson && echo "build with make CC=gcc-14, or which gcc brew installed"; \
	else echo "please install a C compiler with OpenMP, pkg-config, OpenBLAS and cJSON"; exit 1; fi

clean:
	rm -rf build train

.PHONY: train test build-tests bench check deps clean
.SECONDARY:
