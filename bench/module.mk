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
