# sft.c
#   make            builds ./train
#   make deps       installs what that needs (apt-get, dnf or brew), if anything is missing; and gnuplot, for reports
#   make demo       the lesson, in two minutes: a row and its mask, two runs, their curves in a report
#   make base       the bundled base model made again, from WordNet, in build/base/ (a quarter of an hour)
#   make test       builds and runs all tests; prints how many bad inputs were refused, and how many tests passed, failed
#                   and were skipped
#   make test-report   a report in a real browser (chromium, if it is there)
#   make test-crash, test-faults   a run killed 50 times, and one whose disk fails or fills at every single write
#   make bench      speed of training steps and of tokenizers; PEER=1: beside PyTorch's and Hugging Face's;
#                   PEER=tuned: beside a PyTorch that keeps its memory
#   make check      the rules of the tree: which part may include which
#   make tools      valgrind, ThreadSanitizer, gcc -fanalyzer and clang-tidy over all of it, those of them that are installed
#   make fuzz       every reader of foreign files against libFuzzer, FUZZ_SECONDS=60 each, with clang; FUZZ=rows: one alone
#   make clean
# Settings:
#   CC=clang        another compiler (gcc and clang are tested)
#   WORDNET=DIR     where make base finds data.noun and its like
#   SAN=1           address and undefined-behaviour sanitizers, in a build of its own; SAN=thread: data races, with CC=clang
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
CFLAGS ?= -O3 -march=native
PKGS    = openblas libcjson
SAN     =
WORDNET = /usr/share/wordnet

# Homebrew keeps OpenBLAS where pkg-config does not look.
export PKG_CONFIG_PATH := $(PKG_CONFIG_PATH):/opt/homebrew/opt/openblas/lib/pkgconfig:/usr/local/opt/openblas/lib/pkgconfig

BUILD   := build/$(notdir $(firstword $(CC)))$(if $(SAN),-san$(SAN:1=))
# -fno-math-errno: sqrtf sets no errno, so that it vectorizes; no result changes.
STRICT   = -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -fno-fast-math -fno-math-errno -ffp-contract=fast -fopenmp
comma   := ,
SANITIZE = $(if $(SAN),-g -O1 -fsanitize=$(if $(filter thread,$(SAN)),thread,address$(comma)undefined) -fno-sanitize-recover=all \
             -fno-omit-frame-pointer $(if $(findstring clang,$(CC)),-Wno-pass-failed))   # at -O1 clang vectorizes no omp simd
COMPILE  = $(CC) $(STRICT) $(CFLAGS) $(SANITIZE) $$(pkg-config --cflags $(PKGS)) -MMD -MP
LINK     = $(CC) -fopenmp $(SANITIZE) -o $@ $^ $$(pkg-config --libs $(PKGS)) -lm

PARTS   := $(patsubst %.c,%,$(wildcard model/*.c tokenizer/*.c data/*/*.c))
STRINGS := $(subst page.,page_,$(wildcard data/report/page.css data/report/page.js))
OBJECTS := $(PARTS:%=$(BUILD)/%.o) $(STRINGS:%=$(BUILD)/%.o)
FAULTS  := $(BUILD)/faults.so
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

# A file of the report's page that is not C becomes a string: page.css is const char page_css[]. Lines that are one
# comment are left out.
$(BUILD)/data/report/page_%.c: data/report/page.% Makefile
	@mkdir -p $(@D)
	@{ echo 'extern const char page_$*[];'; echo 'const char page_$*[] ='; \
	   LC_ALL=C sed -e '/^ *\/\*.*\*\/$$/d' -e 's/[\\"?]/\\&/g' -e 's/.*/    "&\\n"/' $< && echo '    "";'; } >$@

$(BUILD)/%.o: $(BUILD)/%.c
	@echo "  $(firstword $(CC)) $<"; $(COMPILE) -c -o $@ $<

-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d $(BUILD)/*/*/*.d)

# Threads that sleep while they wait leave a shared machine its breath, at little cost to an idle one.
demo: deps
	@$(MAKE) --no-print-directory -j 2 train
	@printf '\n== A chat row as tokens: the model learns the answer and where it ends; the rest is masked.\n\n'
	./train inspect configs/lesson_many.json --row=41
	@printf '== Two runs that differ in nothing but the mask, with two seeds each: one to two minutes.\n\n'
	./train compare configs/lesson_many.json --seeds=2 --overwrite_output_dir=true
	@printf '\n== Now open %s/build/lesson_many/report.html in a browser.\n' "$$PWD"

base: deps
	@[ -e $(WORDNET)/data.noun ] || { echo "$(WORDNET)/data.noun is not there: apt-get install wordnet-base, or give WORDNET=DIR"; exit 1; }
	@$(MAKE) --no-print-directory train
	python3 data/wordnet/make.py build/base $(WORDNET)
	./train configs/base.json --overwrite_output_dir=true
	@cmp -s build/base/model/model.safetensors model/tiny/model.safetensors && echo "build/base/model has the bytes of model/tiny" || \
	  echo "build/base/model is not byte for byte model/tiny: another processor or OpenBLAS rounds differently"

# The tests run the program too, so they get the one of their own build.
test: deps
	@$(MAKE) --no-print-directory -j 2 check build-tests
	@TRAIN=$(BUILD)/train sh tests/run.sh $(TESTS)

build-tests: $(BUILD)/train $(BUILD)/train_unmasked $(TESTS) $(FAULTS)

# For test_label: the program whose example.c writes no -100, by a change of that one line.
$(BUILD)/unmasked/example.c: data/rows/example.c
	@mkdir -p $(@D)
	@sed 's/\(ex->labels\[i\] = \)learn ? ex->ids\[i\] : IGNORE;/\1ex->ids[i];/' $< >$@
	@! cmp -s $< $@ || { rm $@; echo "the line that writes -100 is not in $<"; exit 1; }

$(BUILD)/unmasked/example.o: $(BUILD)/unmasked/example.c Makefile
	@echo "  $(firstword $(CC)) $<"; $(COMPILE) -iquote data/rows -c -o $@ $<

$(BUILD)/train_unmasked: $(BUILD)/train.o $(BUILD)/unmasked/example.o $(filter-out %/example.o,$(OBJECTS))
	@echo "  link $@"; $(LINK)

# Loaded into the program by test_faults: makes writes fail. No sanitizers in it: the program brings those.
$(FAULTS): tests/faults/faults.c Makefile
	@echo "  link $@"; $(CC) $(STRICT) $(CFLAGS) -shared -fPIC -o $@ $< -ldl

test-report: deps
	@$(MAKE) --no-print-directory $(BUILD)/train
	@sh tests/test_report.sh $(BUILD)/train

# The run of test_train that is killed and resumed, 50 times.
test-crash: deps
	@$(MAKE) --no-print-directory -j 2 build-tests
	KILLS=50 TRAIN=$(BUILD)/train $(BUILD)/test_train

# Every write, sync, close and rename of a run fails once, and its disk fills at every page.
test-faults: deps
	@$(MAKE) --no-print-directory -j 2 build-tests
	FAULTS=all TRAIN=$(BUILD)/train $(BUILD)/test_faults

bench: $(BUILD)/bench_step $(BUILD)/bench_tokenizer $(BUILD)/bench_data
	@sh tests/bench.sh $(BUILD)

# model/ sees numbers only, tokenizer/ only model/base.h, and only ops.c and optim's loops know BLAS and threads.
check:
	@! grep -n '#include "\.\./\(data\|tokenizer\)' model/*.[ch]
	@! grep -n '#include "\.\./' tokenizer/*.[ch] | grep -v 'model/base.h'
	@! grep -ln 'cblas' model/*.c tokenizer/*.c data/*/*.c train.c | grep -v 'model/ops.c'

$(BUILD)/fuzz_%: $(BUILD)/tests/fuzz/%.o $(OBJECTS)
	@echo "  link $@"; $(LINK) -fsanitize=fuzzer

fuzz:
	@MAKE="$(MAKE)" FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) sh tests/fuzz.sh $(FUZZ)

tools: deps
	@MAKE="$(MAKE)" FLAGS="$(filter-out -fopenmp,$(STRICT)) $$(pkg-config --cflags $(PKGS))" SOURCES="$(PARTS:=.c) train.c" \
	  sh tests/tools.sh

NEEDED   = command -v $(CC) >/dev/null && command -v pkg-config >/dev/null && pkg-config --exists $(PKGS) && \
           echo '\#include <omp.h>' | $(CC) -fopenmp -E - >/dev/null 2>&1
AS_ROOT  = $$([ $$(id -u) = 0 ] || echo sudo)
COMPILER = $(if $(findstring clang,$(CC)),clang libomp-dev,gcc libc6-dev)

# gnuplot is nice to have: it is asked for once, without a password, and may be missing.
ASKED    = build/asked-for-gnuplot
IF_ROOT  = $$([ $$(id -u) = 0 ] || echo sudo -n)
GNUPLOT  = if command -v apt-get; then p="$(IF_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get"; \
             $$p install -qy gnuplot-nox || { $$p update -q && $$p install -qy gnuplot-nox; }; \
           elif command -v dnf; then $(IF_ROOT) dnf install -y gnuplot-minimal; \
           else brew install gnuplot; fi

deps:
	@if $(NEEDED); then :; \
	elif command -v apt-get >/dev/null; then \
	  $(AS_ROOT) apt-get update -q && DEBIAN_FRONTEND=noninteractive $(AS_ROOT) apt-get install -qy $(COMPILER) pkg-config libopenblas-dev libcjson-dev; \
	elif command -v dnf >/dev/null; then \
	  $(AS_ROOT) dnf install -y $(firstword $(CC)) $(if $(findstring clang,$(CC)),libomp-devel) pkgconf-pkg-config openblas-devel cjson-devel; \
	elif command -v brew >/dev/null; then \
	  brew install gcc pkg-config openblas cjson && echo "build with make CC=gcc-14, or which gcc brew installed"; \
	else echo "please install a C compiler with OpenMP, pkg-config, OpenBLAS and cJSON"; exit 1; fi
	@[ -e $(ASKED) ] || command -v gnuplot >/dev/null || { \
	  mkdir -p $(dir $(ASKED)); \
	  { $(GNUPLOT); } >$(ASKED) 2>&1 </dev/null || \
	  echo "gnuplot could not be installed ($(ASKED) says why): reports will have their tables but no curves"; }

clean:
	rm -rf build train

.PHONY: train demo base test test-report test-crash test-faults build-tests bench check deps tools fuzz clean
.SECONDARY:
.DELETE_ON_ERROR:
