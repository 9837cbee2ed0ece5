# bench/: each .cc is one program.

BENCHES := $(patsubst %.cc,$(BUILD)/%,$(wildcard bench/*.cc))
all: $(BENCHES)

$(BENCHES): $(BUILD)/%: $(OBJ)/%.o $(call archives,$(LIBRARIES)) $(BUILD)/sources
	$(call link,-lbenchmark $(ALL_LIBS))

.PHONY: bench
bench: $(BENCHES) $(BINARIES) ## Build the benchmarks and list them, or run one: BENCH=name [ARGS=...]
ifeq ($(BENCH),)
	@printf '  %s\n' $(BENCHES)
else
	@$(RUN_ENV) $(BUILD)/bench/$(BENCH) $(ARGS)
endif

# --- The comparison with other systems: bench/peers is one program, with a script for each system's server ---
# Its libraries are needed here only: nothing else builds it.

PEERS         ?=
SECONDS       ?= 5
RUNS          ?= 1
PEERS_BENCH   := $(BUILD)/bench/peers_bench
PEERS_DATA    ?= $(BUILD)/peers/data
PEERS_RESULTS := $(BUILD)/peers/results

$(PEERS_BENCH): $(call objects,$(wildcard bench/peers/*.cc)) $(BUILD)/lib/libtidemark.a \
    $(call archives,tools $(tools.below)) $(BUILD)/sources
	$(call link,-lrdkafka -lrabbitmq -lhiredis $(ALL_LIBS))

.PHONY: bench-peers bench-peers-built
bench-peers: ## Compare with other systems: PEERS="kafka nats" SECONDS=5 RUNS=1 ARGS=...; see bench/README.md
	@tools/dev/setup.sh build peers
	+@$(MAKE) bench-peers-built
bench-peers-built: $(PEERS_BENCH) $(BUILD)/bin/tidemarkd
	@mkdir -p $(PEERS_RESULTS)
	@$(RUN_ENV) PEERS_DIR=$(abspath $(BUILD))/peers $(PEERS_BENCH) --scripts bench/peers --data $(PEERS_DATA) \
	  --seconds $(SECONDS) --runs $(RUNS) $(if $(PEERS),--peers $(PEERS)) \
	  --commit "$$(git describe --always --dirty 2> /dev/null || echo unknown)" \
	  --json $(PEERS_RESULTS)/results.json --markdown $(PEERS_RESULTS)/results.md $(ARGS)
