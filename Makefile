# Tidemark: the build. One make reads the whole tree; `make help` lists the targets.
#
#   make [TARGET] [BUILD=dir] [CXX=clang++-14] [SANITIZE=address,undefined] [COVERAGE=1] [V=1]
#
# A module is a folder of tools/dev/layers.txt. Its .cc files become one static archive, and it is linked with the
# archives of the modules that the table lets it include: what may be included and what may be linked is one list.
# A new file needs no line here, a new folder one line in the table. What is particular to a part of the tree
# (third-party libraries, binaries, tests) is in that part's module.mk, read below.
#
# All output is under $(BUILD): obj/ gen/ lib/ bin/ examples/ bench/ tests/, and one folder for each build of another
# kind: asan/ tsan/ fuzz/ coverage/.

BUILD   ?= build
CXX     ?= g++
PYTHON  ?= python3
FLATC   ?= flatc
VERSION := 0.1.0

.DEFAULT_GOAL := all
SHELL         := /bin/bash
.SHELLFLAGS   := -e -u -o pipefail -c
MAKEFLAGS     += --no-builtin-rules --no-print-directory
ifeq ($(MAKELEVEL),0)
MAKEFLAGS     += -j2
endif
.SUFFIXES:
.SECONDARY:
.DELETE_ON_ERROR:

V ?= 0
ifeq ($(V),0)
Q := @
say = @printf '  %-8s%s\n' '$(1)' '$(2)'
endif

# --- Flags ------------------------------------------------------------------------------------------------------------
# CPPFLAGS, CXXFLAGS and LDFLAGS are the caller's and come last.

CCACHE   := $(if $(findstring ccache,$(CXX)),,$(shell command -v ccache))
OBJ      := $(BUILD)/obj
GEN      := $(BUILD)/gen
WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wswitch-enum
DEFINES  := -DTIDEMARK_VERSION='"$(VERSION)"' -D_GLIBCXX_ASSERTIONS \
            -DSPDLOG_COMPILED_LIB -DSPDLOG_SHARED_LIB -DSPDLOG_FMT_EXTERNAL
INCLUDES := -I. -Iclients/cpp/include -I$(GEN)

ifneq ($(COVERAGE),)
# Counts the regions and conditions of the source itself, so what the optimizer does to them does not matter.
MODE      := -O1 -fprofile-instr-generate -fcoverage-mapping
LINK_MODE := -fprofile-instr-generate
else ifeq ($(SANITIZE),)
# A release build: a warning is an error, and the binary is hardened.
MODE      := -O2 -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
LINK_MODE :=
else
# Warnings are judged in the release build only: the sanitizers' own code confuses the compiler's flow analysis.
MODE      := -O1 -fno-sanitize-recover=all -fsanitize=$(SANITIZE)
LINK_MODE := -fsanitize=$(SANITIZE)
endif

COMPILE = $(CCACHE) $(CXX) -std=c++20 -g1 -fno-omit-frame-pointer -pthread $(WARNINGS) $(MODE) \
          -ffile-prefix-map=$(CURDIR)=. $(DEFINES) $(INCLUDES) $(CPPFLAGS) $(CXXFLAGS)
LINK    = $(CXX) -pthread $(LINK_MODE) -Wl,--as-needed -Wl,-z,relro,-z,now

FLATC_COMPILE = $(FLATC) --cpp --cpp-std c++17 --scoped-enums --keep-prefix --warnings-as-errors
# With the fields of tables as a list: what others send is judged field by field (broker/protocol/alignment.h).
FLATC_WIRE    = --cpp-static-reflection

# No code of ours uses run-time type information: a class that is built with it cannot derive from one built without.
WITH_EXCEPTIONS    := -fno-rtti
WITHOUT_EXCEPTIONS := -fno-rtti -fno-exceptions
LANGUAGE           := $(WITH_EXCEPTIONS)
PLACEMENT          := -fPIE

# --- Modules ----------------------------------------------------------------------------------------------------------
# From the table: <module>.uses is what its line lists, <module>.below all that is reached from there.

LAYERS  := $(shell awk -F: '/^[a-z]/ { sub(/\043.*/, ""); gsub(/[ \t]+/, ",", $$2); print $$1 ":" $$2 }' tools/dev/layers.txt)
MODULES := $(foreach line,$(LAYERS),$(firstword $(subst :, ,$(line))))
comma   := ,
$(foreach line,$(LAYERS),$(eval $(subst :,.uses := ,$(subst $(comma), ,$(line)))))

below = $(if $(filter undefined,$(origin $(1).below)),$(error tools/dev/layers.txt: list $(1) above what uses it))$(1) $($(1).below)
$(foreach m,$(MODULES),$(eval $(m).below := $(sort $(foreach used,$($(m).uses),$(call below,$(used))))))

SOURCES  := $(sort $(shell find broker log timerwheel clients tools tests bench -name '*.cc' 2>/dev/null))
HEADERS  := $(sort $(shell find broker log timerwheel clients tools tests bench -name '*.h' 2>/dev/null))
SCHEMAS  := $(sort $(wildcard */schema/*.fbs */*/schema/*.fbs))
LIBRARIES := $(filter-out tests% bench% clients/cpp/include clients/cpp/examples,$(MODULES))
# The client library is its own sources and the modules below them, built so that they fit into a shared library.
CLIENT_MODULES := clients/cpp/src $(filter-out clients/cpp/include,$(clients/cpp/src.below))

reverse   = $(if $(1),$(call reverse,$(wordlist 2,$(words $(1)),$(1))) $(firstword $(1)))
TOP_DOWN := $(call reverse,$(LIBRARIES))

objects   = $(patsubst %.cc,$(OBJ)/%.o,$(1))
generated = $(patsubst %.fbs,$(GEN)/%_generated.h,$(filter $(addsuffix /schema/%,$(1)),$(SCHEMAS)))
archive   = $(BUILD)/lib/lib$(subst /,_,$(1)).a
# The archives of modules $(1), users before used, as a linker wants them.
archives  = $(foreach m,$(filter $(1),$(TOP_DOWN)),$(call archive,$(m)))
# Third-party libraries of modules $(1) for whoever links them. A module may have others (own_libs) that are needed
# only where its outermost part is used, such as LMDB in broker/kv: its own tests and the binaries name those.
libs      = $(foreach m,$(filter $(1),$(TOP_DOWN)),$($(m).libs))
own_libs  = $(foreach m,$(filter $(1),$(TOP_DOWN)),$($(m).own_libs))
ALL_LIBS  = $(sort $(call libs,$(LIBRARIES)) $(call own_libs,$(LIBRARIES)))

# Links the objects and archives of the prerequisites with the libraries $(1).
define link
$(call say,LINK,$(@:$(BUILD)/%=%))
$(Q)mkdir -p $(@D)
$(Q)$(LINK) $(or $(LINK_AS),-pie) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(1) $(LDFLAGS)
endef

define make-archive
$(call say,AR,$(@:$(BUILD)/%=%))
$(Q)mkdir -p $(@D)
$(Q)rm -f $@
$(Q)$(AR) qcsD $@ $(filter %.o,$^)
endef

# $(1): a module. main.cc is never part of an archive.
define module-rules
$(1).objects := $(call objects,$(filter-out %/main.cc,$(wildcard $(1)/*.cc)))
$(call archive,$(1)): $$($(1).objects) $(BUILD)/sources
	$$(make-archive)
ifneq ($$($(1).objects),)
$$($(1).objects): private LANGUAGE := $(if $(filter tools,$(1)),$(WITH_EXCEPTIONS),$(WITHOUT_EXCEPTIONS))
$$($(1).objects): private PLACEMENT := $(if $(filter $(1),$(CLIENT_MODULES)),-fPIC -fno-semantic-interposition,-fPIE)
$$($(1).objects): | $(call generated,$(1) $($(1).below))
endif
endef
$(foreach m,$(LIBRARIES),$(eval $(call module-rules,$(m))))

# What is in no module (main.cc, tests, examples) may include any schema.
$(call objects,$(filter tests/% bench/% clients/cpp/examples/% %/main.cc,$(SOURCES))): | $(call generated,$(MODULES))

$(OBJ)/%.o: %.cc $(BUILD)/flags
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) $(LANGUAGE) $(PLACEMENT) -MMD -MP -c $< -o $@

# Generated headers are marked as system headers: their warnings are not ours, but objects still depend on them.
$(GEN)/%_generated.h: %.fbs $(SCHEMAS) $(BUILD)/flatc
	$(call say,FLATC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(FLATC_COMPILE) $(if $(filter broker/protocol/%,$<),$(FLATC_WIRE)) -I . -o $(@D) $<
	$(Q)sed -i '1i #pragma GCC system_header' $@

-include $(patsubst %.o,%.d,$(call objects,$(SOURCES)))

# Written only when their text changes: objects and generated headers depend on the flags, archives and binaries on the
# list of sources and on the make files, so that neither another compiler nor a removed file nor a new library leaves
# something stale.
define write-if-changed
@mkdir -p $(@D)
@printf '%s\n' $(1) | cmp -s - $@ || printf '%s\n' $(1) > $@
endef

$(BUILD)/flags: FORCE
	$(call write-if-changed,'$(subst ','\'',$(COMPILE))')
$(BUILD)/flatc: FORCE
	$(call write-if-changed,'$(FLATC_COMPILE) $(FLATC_WIRE)')
$(BUILD)/sources: FORCE
	$(call write-if-changed,$(SOURCES) $(shell cat Makefile */module.mk | cksum))

.PHONY: FORCE all
FORCE:

all: ## Build daemon, tool, client library, examples and benchmarks (the default)

include $(sort $(wildcard */module.mk))

# --- Running ----------------------------------------------------------------------------------------------------------

DATA_DIR ?= data
MINUTES  ?= 1

.PHONY: setup demo demo-built run clean help
setup: ## Install missing Debian packages (as root or by sudo)
	@tools/dev/setup.sh build

# The packages must be there before the rules that use them are looked at, so set-up comes first and make runs again.
demo: setup ## Build, then show the queue at work: produce, consume, kill -9, recover
	+@$(MAKE) demo-built
demo-built: $(BINARIES) $(EXAMPLES)
	@$(RUN_ENV) tools/dev/demo.sh

run: $(BUILD)/bin/tidemarkd ## Start a broker on DATA_DIR (default: ./data)
	$(BUILD)/bin/tidemarkd --data-dir $(DATA_DIR) $(ARGS)

clean: ## Remove all build output
	rm -rf $(BUILD)

help: ## List the targets
	@echo 'usage: make [TARGET] [BUILD=dir] [CXX=clang++-14] [SANITIZE=kinds] [V=1]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST) | grep -v '^ *$$'

# --- Checking ---------------------------------------------------------------------------------------------------------

CLANG_FORMAT ?= clang-format-14
CLANG_TIDY   ?= clang-tidy-14
FORMATTED    := $(SOURCES) $(HEADERS)
TIDY_FILES   ?= $(filter $(SOURCES),$(shell git diff --name-only --diff-filter=d HEAD~1 2>/dev/null))

.PHONY: check check-built check-format format tidy lint layers headers
check: ## Format, lint, layers, header hygiene, installed files
	@tools/dev/setup.sh build check
	+@$(MAKE) check-built
check-built: check-format lint layers headers check-install

format: ## Format all sources in place
	@printf '%s\n' $(FORMATTED) | xargs -r -n 25 -P 2 $(CLANG_FORMAT) -i

check-format:
	@printf '%s\n' $(FORMATTED) | xargs -r -n 25 -P 2 $(CLANG_FORMAT) --dry-run --Werror
	@echo 'format ok: $(words $(FORMATTED)) files'

lint: ## What the compiler does not see: banned calls, file size, white space
	@$(PYTHON) tools/dev/run_tests.py --self-test
	@$(PYTHON) -B tools/dev/coverage.py --self-test
	@$(PYTHON) tools/dev/run_mutants.py --self-test
	@$(PYTHON) tools/dev/run_mutants.py --check
	@$(PYTHON) tools/dev/tidy.py --self-test
	@$(PYTHON) tools/dev/tidy.py

layers: ## Who may include whom
	@$(PYTHON) tools/dev/check_layers.py . tools/dev/layers.txt

# A header that a source includes before all else is compiled alone there; the others are here.
INCLUDED_FIRST := $(shell awk 'FNR == 1 { seen = 0 } !seen && /^\043include/ { seen = 1; if ($$2 ~ /^"/) print substr($$2, 2, length($$2) - 2) }' $(filter-out bench/peers/%,$(SOURCES)))
HEADERS_ALONE  := $(filter-out $(INCLUDED_FIRST) $(addprefix clients/cpp/include/,$(INCLUDED_FIRST)),$(HEADERS))
headers: $(HEADERS_ALONE:%=$(BUILD)/headers/%.ok) ## Compile each header alone that is not first in a source
	@echo 'headers ok: $(words $(HEADERS_ALONE)) files, and $(words $(filter-out $(HEADERS_ALONE),$(HEADERS))) that come first in a source'

$(BUILD)/headers/%.ok: % $(BUILD)/flags | $(call generated,$(MODULES))
	$(call say,HEADER,$<)
	@mkdir -p $(@D)
	$(Q)$(filter-out $(CCACHE),$(COMPILE)) $(LANGUAGE) -Wno-unused-function -fsyntax-only -x c++ -include $< /dev/null \
	  -MMD -MP -MF $(@:.ok=.d) -MT $@
	@touch $@

-include $(HEADERS_ALONE:%=$(BUILD)/headers/%.d)

# Slow, so by default only over what the last commit and the working tree changed.
tidy: $(call generated,$(MODULES)) ## Run clang-tidy over TIDY_FILES (default: changed sources)
	@printf '%s\n' $(TIDY_FILES) | sed '/^$$/d' | xargs -r -n 1 -P 2 sh -c \
	  'echo "  TIDY    $$1"; exec $(CLANG_TIDY) --quiet "$$1" -- -xc++ -std=c++20 $(subst ",\",$(subst ',,$(DEFINES))) $(INCLUDES) -Wno-everything' tidy
	@echo 'tidy ok: $(words $(TIDY_FILES)) files'
