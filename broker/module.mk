# broker/: third-party libraries of its modules, and the daemon.

broker/kv.own_libs  := -llmdb
broker/net.own_libs := -luv
broker/delay.libs   := -ldate-tz
broker/replica.libs := -l:libraft.a
broker.libs         := -luv -llmdb -lspdlog -lfmt -lprometheus-cpp-core

# The libraries for flags, TOML, metrics and time zones throw; these files turn what they throw into a Status.
BROKER_THROWING := $(call objects,$(wildcard broker/config*.cc broker/flags*.cc broker/logging*.cc broker/metrics*.cc \
                                             broker/delay/time_zone.cc))
ifneq ($(BROKER_THROWING),)
$(BROKER_THROWING): private LANGUAGE := $(WITH_EXCEPTIONS)
endif

ifneq ($(wildcard broker/main.cc),)
BINARIES += $(BUILD)/bin/tidemarkd
all: $(BUILD)/bin/tidemarkd
endif

$(BUILD)/bin/tidemarkd: $(OBJ)/broker/main.o $(call archives,broker $(broker.below)) $(BUILD)/sources
	$(call link,$(ALL_LIBS))
