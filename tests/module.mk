# tests/: one doctest binary for each module's unit tests, one each for the integration, fault and simulation tests,
# and the fuzz targets, each also linked with a small main that replays its corpus.
#
# tools/dev/run_tests.py runs them. ONLY=log_base picks binaries by name, SUITES=... kinds of test.

SUITES ?= unit replay simulation integration fault
SEEDS  ?= 20

# Where a test or the demo finds what was built; all paths absolute. Tests run in the root of the tree.
RUN_ENV := BUILD=$(abspath $(BUILD)) CHECK_HISTORY=$(abspath $(BUILD))/tests/check_history TIDEMARKD=$(abspath $(BUILD))/bin/tidemarkd TIDEMARK_CLI=$(abspath $(BUILD))/bin/tidemark \
           TIDEMARK_EXAMPLES=$(abspath $(BUILD))/examples

TEST_MAIN    := $(OBJ)/tests/support/test_main.o
TEST_SUPPORT := $(BUILD)/lib/libtests_support.a
SUPPORT_OBJECTS := $(call objects,$(filter-out tests/support/test_main.cc,$(wildcard tests/support/*.cc)))
$(TEST_SUPPORT): $(SUPPORT_OBJECTS) $(BUILD)/sources
	$(make-archive)

# --- Unit tests: linked with their module and what is below it, nothing else ---

# $(1): a folder of tests. It belongs to the module of the same path, or to the modules inside that path
# (clients/cpp: clients/cpp/src); tests of what is in no archive (the test support) may use any module.
tested-modules = $(or $(tested.$(1)),$(filter $(1),$(LIBRARIES)),$(filter $(1)/%,$(LIBRARIES)),$(LIBRARIES))
# The history checker is no part of the product; its tests take a folder for their files from the test support.
tested.checker := log/base
unit-binary    = $(BUILD)/tests/unit/$(subst /,_,$(1))

# $(1): a folder below tests/unit, $(2): its modules.
define unit-rules
$(call unit-binary,$(1)): $(call objects,$(wildcard tests/unit/$(1)/*.cc)) $(TEST_MAIN) $(TEST_SUPPORT) \
    $(call archives,$(2) $(foreach m,$(2),$($(m).below))) $(BUILD)/sources
	$$(call link,$$(call libs,$(2) $(foreach m,$(2),$($(m).below))) $$(call own_libs,$(2)))
endef

UNIT_FOLDERS := $(sort $(patsubst tests/unit/%/,%,$(dir $(filter tests/unit/%,$(SOURCES)))))
$(foreach folder,$(UNIT_FOLDERS),$(eval $(call unit-rules,$(folder),$(call tested-modules,$(folder)))))
UNIT_TESTS := $(foreach folder,$(UNIT_FOLDERS),$(call unit-binary,$(folder)))

# --- The history checker: judges what the clients of a run asked and were told, without code of the product ---

CHECK_HISTORY := $(BUILD)/tests/check_history
CHECKER       := $(BUILD)/lib/libtests_checker.a
$(CHECKER): $(call objects,$(filter-out %/main.cc,$(wildcard tests/checker/*.cc))) $(BUILD)/sources
	$(make-archive)
$(CHECK_HISTORY): $(OBJ)/tests/checker/main.o $(CHECKER)
	$(call link)
$(call unit-binary,checker): $(CHECKER)

# --- The black-box programs: a real broker under load, a nemesis, and the checker's verdict ---

BLACKBOX_LIBRARY := $(BUILD)/lib/libtests_blackbox.a
BLACKBOX         := $(patsubst tests/blackbox/%_main.cc,$(BUILD)/tests/%,$(wildcard tests/blackbox/*_main.cc))
$(BLACKBOX_LIBRARY): $(call objects,$(filter-out %_main.cc,$(wildcard tests/blackbox/*.cc))) $(BUILD)/sources
	$(make-archive)
$(BLACKBOX): $(BUILD)/tests/%: $(OBJ)/tests/blackbox/%_main.o $(BLACKBOX_LIBRARY) $(TEST_SUPPORT) \
    $(call archives,$(LIBRARIES)) $(BUILD)/sources
	$(call link,$(ALL_LIBS))

# --- Tests of the whole: each suite is one binary that may use any module ---

INTEGRATION_TESTS := $(if $(wildcard tests/integration/*.cc),$(BUILD)/tests/integration)
FAULT_TESTS       := $(if $(wildcard tests/fault/*.cc),$(BUILD)/tests/fault)
SIMULATION_TESTS  := $(if $(wildcard tests/simulation/*.cc),$(BUILD)/tests/simulation)

# The suites with a doctest main; the simulation has its own: `simulation --seed N`.
$(BUILD)/tests/integration $(BUILD)/tests/fault: $(TEST_MAIN)
$(BUILD)/tests/integration: $(call objects,$(wildcard tests/integration/*.cc))
$(BUILD)/tests/fault: $(call objects,$(wildcard tests/fault/*.cc))
$(BUILD)/tests/simulation: $(call objects,$(wildcard tests/simulation/*.cc))
# The database of the order service.
$(BUILD)/tests/fault: private SUITE_LIBS := -lsqlite3
$(BUILD)/tests/fault: $(BLACKBOX_LIBRARY)
$(BUILD)/tests/integration $(BUILD)/tests/fault $(BUILD)/tests/simulation: \
    $(TEST_SUPPORT) $(call archives,$(LIBRARIES)) $(BUILD)/sources
	$(call link,$(ALL_LIBS) $(SUITE_LIBS))

# --- Fuzz targets: tests/fuzz/<name>_fuzz.cc with its corpus in tests/fuzz/corpus/<name>/ ---

FUZZ_NAMES   := $(patsubst tests/fuzz/%_fuzz.cc,%,$(wildcard tests/fuzz/*_fuzz.cc))
FUZZERS      := $(FUZZ_NAMES:%=$(BUILD)/fuzzers/%)
REPLAY_TESTS := $(FUZZ_NAMES:%=$(BUILD)/tests/replay/%)
$(REPLAY_TESTS): $(BUILD)/tests/replay/%: $(OBJ)/tests/fuzz/%_fuzz.o $(OBJ)/tests/fuzz/replay_main.o \
    $(TEST_SUPPORT) $(call archives,$(LIBRARIES)) $(BUILD)/sources
	$(call link,$(ALL_LIBS))
$(FUZZERS): private LINK_MODE += -fsanitize=fuzzer
$(FUZZERS): $(BUILD)/fuzzers/%: $(OBJ)/tests/fuzz/%_fuzz.o $(TEST_SUPPORT) $(call archives,$(LIBRARIES)) $(BUILD)/sources
	$(call link,$(ALL_LIBS))

# What the history checker reads is fuzzed as well; it is in no module.
$(BUILD)/fuzzers/history $(BUILD)/tests/replay/history: $(CHECKER)

# New inputs stay in the build folder; one worth keeping is copied to the corpus by hand, under a name that says why.
.PHONY: fuzz fuzz-built
fuzz: ## Run each fuzz target MINUTES minutes (default 1), as many at once as cores; or one: FUZZ=name
	@tools/dev/setup.sh build fuzz
	+@$(MAKE) fuzz-built BUILD=$(BUILD)/fuzz CXX=clang++-14 SANITIZE=fuzzer-no-link,address,undefined
fuzz-built: $(if $(FUZZ),$(FUZZ:%=$(BUILD)/fuzzers/%),$(FUZZERS))
	@$(PYTHON) tools/dev/run_fuzz.py --seconds $$(( $(MINUTES) > 0 ? 60 * $(MINUTES) : 1 )) --corpus $(BUILD)/corpus \
	    --crashes $(BUILD)/crashes $^

# --- Running ---

only       = $(if $(ONLY),$(filter $(addprefix %/,$(ONLY)),$(1)),$(1))
suite      = $(if $(filter $(1),$(SUITES)),$(call only,$(2)))
TESTS     := $(addprefix unit:,$(call suite,unit,$(UNIT_TESTS))) $(addprefix replay:,$(call suite,replay,$(REPLAY_TESTS))) \
             $(addprefix simulation:,$(call suite,simulation,$(SIMULATION_TESTS))) \
             $(addprefix integration:,$(call suite,integration,$(INTEGRATION_TESTS))) \
             $(addprefix fault:,$(call suite,fault,$(FAULT_TESTS)))
# Only these talk to a real daemon.
NEED_BINARIES := $(if $(filter integration:% fault:%,$(TESTS)),$(BUILD)/bin/tidemarkd $(BUILD)/bin/tidemark $(EXAMPLES)) \
                 $(if $(filter fault:%,$(TESTS)),$(CHECK_HISTORY) $(BLACKBOX))
RUN_TESTS     := $(RUN_ENV) $(PYTHON) tools/dev/run_tests.py $(if $(findstring thread,$(SANITIZE)),--no-aslr)

.PHONY: test test-built asan tsan sim sims marks mutants
test: setup ## Build and run all tests; SUITES=, ONLY=, SEEDS= narrow it
	+@$(MAKE) test-built
test-built: $(foreach t,$(TESTS),$(lastword $(subst :, ,$(t)))) $(NEED_BINARIES)
	@$(RUN_TESTS) --seeds $(SEEDS) --seed-file tests/seeds/simulation.txt $(TESTS)

asan: setup ## The same under address and undefined-behaviour sanitizers
	+@$(MAKE) test-built BUILD=$(BUILD)/asan SANITIZE=address,undefined
tsan: setup ## The same under the thread sanitizer
	+@$(MAKE) test-built BUILD=$(BUILD)/tsan SANITIZE=thread

# What the tests reach of each module; see CONTRIBUTING.md. Without SUITES these three, as the others need long.
.PHONY: coverage coverage-built
coverage: ## Line and branch coverage of the tests (SUITES, ONLY, SEEDS), by module and as build/coverage/report
	@tools/dev/setup.sh build coverage
	+@$(MAKE) coverage-built BUILD=$(BUILD)/coverage CXX=clang++-14 COVERAGE=1 \
	  SUITES='$(if $(filter file,$(origin SUITES)),unit replay simulation,$(SUITES))'
coverage-built: $(foreach t,$(TESTS),$(lastword $(subst :, ,$(t)))) $(NEED_BINARIES) $(call archives,$(LIBRARIES))
	@rm -rf $(BUILD)/profiles
	@LLVM_PROFILE_FILE=$(abspath $(BUILD))/profiles/%4m.profraw $(RUN_TESTS) --seeds $(SEEDS) $(TESTS)
	@$(PYTHON) -B tools/dev/coverage.py $(BUILD)

SEED ?= 1
N    ?= 100
sim: $(SIMULATION_TESTS) ## Run the simulation of one SEED
	@$(BUILD)/tests/simulation --seed $(SEED)
sims: $(SIMULATION_TESTS) ## Run the simulation of N seeds, from SEED on
	@$(RUN_TESTS) --first-seed $(SEED) --seeds $(N) --progress 20 $(if $(MARKS),--marks) simulation:$(BUILD)/tests/simulation
# Rare branches carry a mark (log/base/coverage_mark.h); of many seeds some must have been at each.
marks: ## Like sims, of 2,000 seeds if no N is given, and fails for a coverage mark that no seed hit
	+@$(MAKE) sims MARKS=1 $(if $(filter file,$(origin N)),N=2000)

mutants: $(SIMULATION_TESTS) ## Break the product on purpose; the simulation has to notice. MUTANT=name: one of tests/mutants/
	@$(PYTHON) tools/dev/run_mutants.py --build $(BUILD) --make-argument CXX='$(CXX)' --make-argument CURDIR='$(CURDIR)' $(MUTANT)

# One line for each epoch, the verdict at the end. A run that is refused leaves its history in $(BUILD)/failed/.
.PHONY: powercut torture
powercut: $(BLACKBOX) $(BUILD)/bin/tidemarkd $(BUILD)/bin/tidemark $(CHECK_HISTORY) ## Cut the power of a real broker N times: N=300 SEED=1 (root)
	@$(RUN_ENV) $(BUILD)/tests/powercut --rounds $(N) --seed $(SEED)
torture: $(BLACKBOX) $(BUILD)/bin/tidemarkd $(BUILD)/bin/tidemark $(CHECK_HISTORY) ## Torture a real broker MINUTES long, or until KILLS=300 kills: SEED=1
	@$(RUN_ENV) $(BUILD)/tests/torture $(if $(KILLS),--minutes 0 --kills $(KILLS),--minutes $(MINUTES)) --seed $(SEED)
