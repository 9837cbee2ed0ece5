# clients/: the C++ client library, static and shared, and its examples.
#
# libtidemark holds all of ours that it needs, so that a user links one library. The shared one exports the public
# API only: namespace tidemark::client, as the version script says.

clients/cpp/src.libs := -luv

SOVERSION        := 0
CLIENT_SHARED    := libtidemark.so.$(VERSION)
CLIENT_SONAME    := libtidemark.so.$(SOVERSION)
CLIENT_OBJECTS   := $(foreach m,$(CLIENT_MODULES),$($(m).objects))
ifneq ($(wildcard clients/cpp/src/*.cc),)
CLIENT_LIBRARIES := $(BUILD)/lib/libtidemark.a $(BUILD)/lib/libtidemark.so
endif
all: $(CLIENT_LIBRARIES)

$(BUILD)/lib/libtidemark.a: $(CLIENT_OBJECTS) $(BUILD)/sources
	$(make-archive)

$(BUILD)/lib/$(CLIENT_SHARED): private LINK_AS := -shared -Wl,-soname,$(CLIENT_SONAME) -Wl,-z,defs \
  -Wl,--version-script=clients/cpp/libtidemark.map
$(BUILD)/lib/$(CLIENT_SHARED): $(CLIENT_OBJECTS) clients/cpp/libtidemark.map $(BUILD)/sources
	$(call link,$(call libs,$(CLIENT_MODULES)))

$(BUILD)/lib/libtidemark.so: $(BUILD)/lib/$(CLIENT_SHARED)
	@ln -sf $(CLIENT_SHARED) $(BUILD)/lib/$(CLIENT_SONAME)
	@ln -sf $(CLIENT_SONAME) $@

# The examples are built as a user builds them: the public headers, the static library, the compiler's defaults.
EXAMPLE_SOURCES := $(wildcard clients/cpp/examples/*.cc)
EXAMPLES        := $(patsubst clients/cpp/examples/%.cc,$(BUILD)/examples/%,$(EXAMPLE_SOURCES))
all: $(EXAMPLES)

ifneq ($(EXAMPLE_SOURCES),)
# The library has no run-time type information, which the sanitizer's check of virtual tables would look for.
$(call objects,$(EXAMPLE_SOURCES)): private LANGUAGE := $(if $(findstring undefined,$(SANITIZE)),-fno-sanitize=vptr)
$(call objects,$(EXAMPLE_SOURCES)): private INCLUDES := -Iclients/cpp/include
endif
# What an example needs besides the library.
$(BUILD)/examples/order_service: private EXAMPLE_LIBS := -lsqlite3
$(EXAMPLES): $(BUILD)/examples/%: $(OBJ)/clients/cpp/examples/%.o $(BUILD)/lib/libtidemark.a
	$(call link,$(call libs,$(CLIENT_MODULES)) $(EXAMPLE_LIBS))
