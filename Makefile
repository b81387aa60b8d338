# sft.c
#   make            builds ./train
#   make deps       installs what the build needs (with apt-get, dnf or brew)
#   make demo       the lesson, in two minutes: shows a row and its mask, trains two models, draws their curves, and
#                   says the same words to both
#   make base       makes the bundled base model again from WordNet, in build/base/ (15 minutes)
#   make test       builds and runs all tests; prints how many bad inputs were refused, and how many tests passed,
#                   failed and were skipped. T=test_ops runs only this program, T="test_ops test_train" these two.
#   make test-report   opens a report in a browser and measures it (needs chromium)
#   make test-readme   runs the commands of README.md, configs/lab.md and configs/hunt/README.md (some minutes)
#   make test-crash    kills a run 50 times and resumes it
#   make test-faults   runs with a disk that fails, or fills up, at every single write
#   make test-gguf  compares files that are exported to GGUF with the gguf package, and runs them in llama.cpp (installs
#                   both, PyTorch and transformers in build)
#   make parity     trains with TRL and with ./train, compares them, and goes to TRL's folder and back: of
#                   CONFIG=configs/lesson_few.json, STEPS=20 (installs PyTorch and TRL in build/oracle)
#   make bench      measures training steps, generation and tokenizers; PEER=1: PyTorch, TRL, llama.cpp and Hugging
#                   Face's tokenizers too (installed in build/); SHAPES=260K MODELS=tiny asks for a part
#   make check      which room includes which, the lines of each and its limit; fails where a rule is broken
#   make tools      runs valgrind, ThreadSanitizer, gcc -fanalyzer and clang-tidy; the tests with POSIX's calls alone
#                   and on arm64; tries musl's headers, code for macOS, Homebrew. Skips what is not installed
#   make fuzz       runs libFuzzer on every reader of foreign files, FUZZ_SECONDS=60 for each, or on FUZZ=rows
#                   alone (needs clang)
#   make clean      removes ./train and build/
# Settings:
#   CC=clang        another compiler (gcc and clang are tested)
#   WORDNET=DIR     the folder with data.noun, data.verb, data.adj and data.adv, for make base
#   ARCH=x86-64-v3  code for that kind of processor (here AVX2) instead of this one, in a separate build folder; with
#                   make bench OpenBLAS's kernels of that kind too
#   SAN=1           address and undefined-behaviour sanitizers, in a separate build folder
#   SAN=thread      finds data races (needs CC=clang)
#   POSIX=1         no calls but POSIX's, as on systems other than Linux, in a separate build folder
#   WERROR=-Werror  makes every warning an error. make test, fuzz and tools do this; make and make demo do not, so
#                   that a newer compiler with new warnings still builds the program.
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
SYSTEM := $(shell uname -sm)
ARCH    = native
CFLAGS ?= -O3 $(if $(filter Darwin-arm64-native,$(subst $() ,-,$(SYSTEM))-$(ARCH)),,-march=$(ARCH))
PKGS    = openblas libcjson
SAN     =
POSIX   =
WERROR  =
WORDNET = /usr/share/wordnet

OPENMP      = -fopenmp
OPENMP_LIBS = -fopenmp
# macOS, with Homebrew. Apple's clang (gcc is a name of it too) needs libomp. If that is not installed, Homebrew's
# newest gcc is taken. OpenBLAS is kept where pkg-config does not look, and one without openblas_get_corename links.
ifneq ($(filter Darwin,$(SYSTEM)),)
BREW   := $(shell brew --prefix 2>/dev/null)
LIBOMP := $(wildcard $(BREW)/opt/libomp)
export PKG_CONFIG_PATH := $(PKG_CONFIG_PATH):$(BREW)/opt/openblas/lib/pkgconfig
ifneq ($(findstring Apple clang,$(shell $(CC) --version 2>/dev/null)),)
ifneq ($(LIBOMP),)
OPENMP      = -Xpreprocessor -fopenmp -I$(LIBOMP)/include
OPENMP_LIBS = -L$(LIBOMP)/lib -lomp
else
CC     := $(or $(lastword $(sort $(wildcard $(BREW)/bin/gcc-[1-9][0-9]))),$(CC))
endif
endif
OPENMP_LIBS += -Wl,-U,_openblas_get_corename
endif

BUILD   := build/$(notdir $(firstword $(CC)))$(patsubst %,-%,$(filter-out native,$(ARCH)))$(if $(SAN),-san$(SAN:1=))
BUILD   := $(BUILD)$(if $(POSIX),-posix)
# -fno-math-errno, -fno-trapping-math: sqrtf sets no errno, and no comparison traps, so that both vectorize; no result
# changes.
STRICT   = -std=c11 $(if $(POSIX),-U__linux__ -D_XOPEN_SOURCE=700,-D_GNU_SOURCE) -Wall -Wextra \
           -fno-fast-math -fno-math-errno -fno-trapping-math -ffp-contract=fast
# Vectors are passed between static functions alone, so that no ABI matters.
STRICT  += -Wno-psabi
# x86 compilers make vectors of 256 bits, even where there are registers of 512, unless they are told otherwise.
STRICT  += $(if $(filter x86_64,$(SYSTEM)),-mprefer-vector-width=512)
comma   := ,
# -Wno-pass-failed: at -O1 clang does not vectorize "omp simd" loops, and warns.
SANITIZE = $(if $(SAN),-fsanitize=$(if $(filter thread,$(SAN)),thread,address$(comma)undefined) \
             -g -O1 -fno-sanitize-recover=all -fno-omit-frame-pointer $(if $(findstring clang,$(CC)),-Wno-pass-failed))
COMPILE  = $(CC) $(STRICT) $(OPENMP) $(WERROR) $(CFLAGS) $(SANITIZE) $$(pkg-config --cflags $(PKGS)) -MMD -MP
LINK     = $(CC) $(SANITIZE) -o $@ $^ $$(pkg-config --libs $(PKGS)) $(OPENMP_LIBS) -lm

PARTS   := $(patsubst %.c,%,$(wildcard model/*.c tokenizer/*.c data/*/*.c))
STRINGS := $(subst .,_,$(wildcard $(addprefix data/report/*.,css js html))) data/run/trl_keys_txt \
           model/adapter_config_json
OBJECTS := $(PARTS:%=$(BUILD)/%.o) $(STRINGS:%=$(BUILD)/%.o)
T        =
TESTS   := $(addprefix $(BUILD)/,$(or $(T),$(notdir $(basename $(wildcard tests/test_*.c)))))

train: $(BUILD)/train
	@cp $< $@

$(BUILD)/train: $(BUILD)/train.o $(OBJECTS)
	@echo "  link $@"; $(LINK)

$(BUILD)/test_%: $(BUILD)/tests/test_%.o $(OBJECTS)
	@echo "  link $@"; $(LINK)

$(BUILD)/bench_%: $(BUILD)/tests/bench_%.o $(OBJECTS)
	@echo "  link $@"; $(LINK)

# The file that says which processor the program needs runs on any.
$(BUILD)/model/processor.o: override CFLAGS := $(filter-out -march=% -mcpu=%,$(CFLAGS))

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  $(firstword $(CC)) $<"; $(COMPILE) -c -o $@ $<

# A file that is not C becomes a string: page.css is const char page_css[]. Lines that are one comment are left out.
define TO_STRING
	@mkdir -p $(@D)
	@{ echo 'extern const char $(basename $(@F))[];'; echo 'const char $(basename $(@F))[] ='; \
	   LC_ALL=C sed -e '/^ *\/\*.*\*\/$$/d' -e 's/[\\"?]/\\&/g' -e 's/.*/    "&\\n"/' $< && echo '    "";'; } >$@
endef
$(BUILD)/data/report/%_css.c: data/report/%.css Makefile
	$(TO_STRING)
$(BUILD)/data/report/%_js.c: data/report/%.js Makefile
	$(TO_STRING)
$(BUILD)/data/report/%_html.c: data/report/%.html Makefile
	$(TO_STRING)
$(BUILD)/data/run/%_txt.c: data/run/%.txt Makefile
	$(TO_STRING)
$(BUILD)/model/%_json.c: model/%.json Makefile
	$(TO_STRING)

$(BUILD)/%.o: $(BUILD)/%.c
	@echo "  $(firstword $(CC)) $<"; $(COMPILE) -c -o $@ $<

-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d $(BUILD)/*/*/*.d)

demo: deps
	@$(MAKE) --no-print-directory -j 2 train
	@printf '\n== A chat row as tokens: the model learns the answer and where it ends; the rest is masked.\n\n'
	./train inspect configs/lesson_many.json --row=41
	@printf '== Two runs that differ in nothing but the mask, with two seeds each: one to two minutes.\n\n'
	./train compare configs/lesson_many.json --seeds=2 --overwrite_output_dir=true
	@printf '\n== The same words, said to both: weight-0 had its loss on the answer only, weight-1 on every token.\n'
	@for said in Hello dog 'Tell me a story.'; do for weight in 0 1; do \
	  printf '\n./train chat build/lesson_many/weight-%s/seed-42 --prompt="%s" --temperature=0\n' $$weight "$$said"; \
	  ./train chat build/lesson_many/weight-$$weight/seed-42 --prompt="$$said" --temperature=0 || exit; done; done
	@printf '\n== Now open %s/build/lesson_many/report.html in a browser.\n' "$$PWD"

base: deps
	@[ -e $(WORDNET)/data.noun ] || { \
	  echo "$(WORDNET)/data.noun is not there: apt-get install wordnet-base, or give WORDNET=DIR"; exit 1; }
	@$(MAKE) --no-print-directory train
	python3 data/wordnet/make.py build/base $(WORDNET)
	./train configs/base.json --overwrite_output_dir=true
	@cmp -s build/base/model/model.safetensors model/tiny/model.safetensors && \
	  echo "build/base/model has the bytes of model/tiny" || \
	  echo "build/base/model is not byte for byte model/tiny: another processor or OpenBLAS rounds differently"

# Some tests run the program: TRAIN is that of their own build.
test: deps
	@$(MAKE) --no-print-directory -j 2 check build-tests
	@TRAIN=$(BUILD)/train sh tests/run.sh $(TESTS)

# WERROR holds for all that build-tests builds.
build-tests: WERROR = -Werror
build-tests: $(TESTS)

# What tests need to run, but are not linked with.
RUN_TRAIN := $(shell grep -lE '"(program|small_run).h"' tests/test_*.c)
$(RUN_TRAIN:tests/%.c=$(BUILD)/%): | $(BUILD)/train
$(BUILD)/test_label: | $(BUILD)/train_unmasked
$(BUILD)/test_faults: | $(BUILD)/faults.so
$(BUILD)/test_processor: | $(BUILD)/blas.so

# For test_label: a program whose example.c does not write -100, because one line is changed.
$(BUILD)/unmasked/example.c: data/rows/example.c
	@mkdir -p $(@D)
	@sed 's/\(ex->labels\[i\] = \)learn ? ex->ids\[i\] : IGNORE;/\1ex->ids[i];/' $< >$@
	@! cmp -s $< $@ || { rm $@; echo "the line that writes -100 is not in $<"; exit 1; }

$(BUILD)/unmasked/example.o: $(BUILD)/unmasked/example.c Makefile
	@echo "  $(firstword $(CC)) $<"; $(COMPILE) -iquote data/rows -c -o $@ $<

$(BUILD)/train_unmasked: $(BUILD)/train.o $(BUILD)/unmasked/example.o $(filter-out %/example.o,$(OBJECTS))
	@echo "  link $@"; $(LINK)

# Tests load them into the program, to make writes fail and products wrong. They have no sanitizers: the program has
# them.
$(BUILD)/%.so: tests/faults/%.c Makefile
	@mkdir -p $(@D)
	@echo "  link $@"; $(CC) $(STRICT) -D_GNU_SOURCE $(WERROR) $(CFLAGS) \
	  $$(pkg-config --cflags $(PKGS)) -shared -fPIC -o $@ $< -ldl

test-report: deps
	@$(MAKE) --no-print-directory $(BUILD)/train
	@sh tests/test_report.sh $(BUILD)/train

# What README.md and the pages of configs/ tell to run, and what they say it prints.
test-readme: deps
	@$(MAKE) --no-print-directory -j 2 train
	@sh tests/test_readme.sh $(BUILD)

# test_train kills and resumes a run 50 times.
test-crash: deps
	@$(MAKE) --no-print-directory -j 2 build-tests T=test_train
	KILLS=50 TRAIN=$(BUILD)/train $(BUILD)/test_train

# Every write, sync, close and rename of a run fails once; and disks of all sizes, 4 kB apart, fill up.
test-faults: deps
	@$(MAKE) --no-print-directory -j 2 build-tests T=test_faults
	FAULTS=all TRAIN=$(BUILD)/train $(BUILD)/test_faults

CONFIG   = configs/lesson_few.json
STEPS    = 20
parity: train
	@python=$$(sh tests/oracle/venv.sh 2>build/venv.log) || { \
	  echo "make parity: skipped: TRL cannot be installed here (build/venv.log)"; exit 0; }; \
	"$$python" tests/oracle/parity.py $(CONFIG) $(STEPS)

test-gguf: train
	@sh tests/gguf.sh build/gguf

bench: $(BUILD)/bench_step $(BUILD)/bench_sample $(BUILD)/bench_tokenizer $(BUILD)/bench_data
	@$(if $(filter x86-64-v3,$(ARCH)),OPENBLAS_CORETYPE=Haswell )sh tests/bench.sh $(BUILD)

check:
	@sh tests/check.sh

$(BUILD)/fuzz_%: $(BUILD)/tests/fuzz/%.o $(OBJECTS)
	@echo "  link $@"; $(LINK) -fsanitize=fuzzer

fuzz:
	@MAKE="$(MAKE) WERROR=-Werror" FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) sh tests/fuzz.sh $(FUZZ)

tools: deps
	@MAKE="$(MAKE) WERROR=-Werror" FLAGS="$(STRICT) -Werror $$(pkg-config --cflags $(PKGS))" \
	  SOURCES="$(PARTS:=.c) train.c" sh tests/tools.sh

HAS_OMP  = echo '\#include <omp.h>' | $(CC) $(OPENMP) -E - >/dev/null 2>&1
NEEDED   = command -v $(CC) >/dev/null && command -v pkg-config >/dev/null && pkg-config --exists $(PKGS) && $(HAS_OMP)
AS_ROOT  = $$([ $$(id -u) = 0 ] || echo sudo)
COMPILER = $(if $(findstring clang,$(CC)),clang libomp-dev,gcc libc6-dev)

deps:
	@if $(NEEDED); then :; \
	elif command -v apt-get >/dev/null; then \
	  $(AS_ROOT) apt-get update -q && DEBIAN_FRONTEND=noninteractive $(AS_ROOT) apt-get install -qy $(COMPILER) \
	    pkg-config libopenblas-dev libcjson-dev; \
	elif command -v dnf >/dev/null; then \
	  $(AS_ROOT) dnf install -y $(firstword $(CC)) $(if $(findstring clang,$(CC)),libomp-devel) pkgconf-pkg-config \
	    openblas-devel cjson-devel; \
	elif command -v brew >/dev/null; then \
	  brew install $$($(HAS_OMP) || echo $(if $(filter Darwin,$(SYSTEM)),libomp,gcc)) \
	    $$(command -v pkg-config >/dev/null || echo pkgconf) \
	    $$(pkg-config --exists openblas 2>/dev/null || echo openblas) \
	    $$(pkg-config --exists libcjson 2>/dev/null || echo cjson); \
	else echo "please install a C compiler with OpenMP, pkg-config, OpenBLAS and cJSON (on a Mac with Homebrew:" \
	  "https://brew.sh)"; exit 1; fi

clean:
	rm -rf build train

.PHONY: train demo base test test-report test-readme test-crash test-faults test-gguf build-tests parity bench check \
        deps tools fuzz clean
.SECONDARY:
.DELETE_ON_ERROR:
