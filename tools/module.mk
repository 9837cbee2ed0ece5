# tools/: the admin tool, its completions, and what `make install` puts where.

tools.libs := -luv -llmdb -lspdlog -lfmt

PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR    ?= $(PREFIX)/share
UNITDIR    ?= $(PREFIX)/lib/systemd/system
INSTALL    ?= install

ifneq ($(wildcard tools/*.cc),)
BINARIES += $(BUILD)/bin/tidemark
all: $(BUILD)/bin/tidemark
endif

# All objects, not the archive: a command that registers itself must not be left out by the linker.
$(BUILD)/bin/tidemark: $(call objects,$(wildcard tools/*.cc)) $(BUILD)/lib/libtidemark.a $(call archives,$(tools.below)) $(BUILD)/sources
	$(call link,$(ALL_LIBS))

COMPLETIONS := $(addprefix $(BUILD)/completions/tidemark.,bash zsh fish)
$(COMPLETIONS): $(BUILD)/completions/tidemark.%: $(BUILD)/bin/tidemark
	@mkdir -p $(@D)
	$(Q)$< completion $* > $@

# Templates name what only the installation knows as @NAME@.
TEMPLATES := tidemarkd.service tidemark.pc tidemarkConfig.cmake tidemarkConfigVersion.cmake tidemarkd.8 tidemark.1
DIST      := $(TEMPLATES:%=$(BUILD)/dist/%)
$(DIST): $(BUILD)/dist/%: tools/dist/%.in FORCE
	@mkdir -p $(@D)
	@sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@SOVERSION@|$(SOVERSION)|g' -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@BINDIR@|$(BINDIR)|g' \
	  -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|g' -e 's|@DATADIR@|$(DATADIR)|g' $< > $@

.PHONY: install check-install
install: $(BINARIES) $(CLIENT_LIBRARIES) $(COMPLETIONS) $(DIST) ## Install under DESTDIR/PREFIX (default /usr/local)
	$(INSTALL) -d $(addprefix $(DESTDIR),$(BINDIR) $(LIBDIR)/pkgconfig $(LIBDIR)/cmake/tidemark $(INCLUDEDIR)/tidemark \
	  $(DATADIR)/man/man1 $(DATADIR)/man/man8 $(DATADIR)/doc/tidemark $(DATADIR)/bash-completion/completions \
	  $(DATADIR)/zsh/site-functions $(DATADIR)/fish/vendor_completions.d $(UNITDIR))
	$(INSTALL) -m 755 $(BINARIES) $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 clients/cpp/include/tidemark/*.h $(DESTDIR)$(INCLUDEDIR)/tidemark
	$(INSTALL) -m 644 $(BUILD)/lib/libtidemark.a $(DESTDIR)$(LIBDIR)
	$(INSTALL) -m 755 $(BUILD)/lib/$(CLIENT_SHARED) $(DESTDIR)$(LIBDIR)
	ln -sf $(CLIENT_SHARED) $(DESTDIR)$(LIBDIR)/$(CLIENT_SONAME)
	ln -sf $(CLIENT_SONAME) $(DESTDIR)$(LIBDIR)/libtidemark.so
	$(INSTALL) -m 644 $(BUILD)/dist/tidemark.pc $(DESTDIR)$(LIBDIR)/pkgconfig
	$(INSTALL) -m 644 $(BUILD)/dist/tidemarkConfig.cmake $(BUILD)/dist/tidemarkConfigVersion.cmake $(DESTDIR)$(LIBDIR)/cmake/tidemark
	$(INSTALL) -m 644 $(BUILD)/dist/tidemark.1 $(DESTDIR)$(DATADIR)/man/man1
	$(INSTALL) -m 644 $(BUILD)/dist/tidemarkd.8 $(DESTDIR)$(DATADIR)/man/man8
	$(INSTALL) -m 644 $(BUILD)/dist/tidemarkd.service $(DESTDIR)$(UNITDIR)
	$(INSTALL) -m 644 LICENSE NOTICE tools/dist/licenses/* $(DESTDIR)$(DATADIR)/doc/tidemark
	$(INSTALL) -m 644 $(BUILD)/completions/tidemark.bash $(DESTDIR)$(DATADIR)/bash-completion/completions/tidemark
	$(INSTALL) -m 644 $(BUILD)/completions/tidemark.zsh $(DESTDIR)$(DATADIR)/zsh/site-functions/_tidemark
	$(INSTALL) -m 644 $(BUILD)/completions/tidemark.fish $(DESTDIR)$(DATADIR)/fish/vendor_completions.d/tidemark.fish

# Installs into a staging folder and builds the examples against that, as a user would.
check-install: $(BINARIES) $(CLIENT_LIBRARIES)
ifneq ($(and $(BINARIES),$(CLIENT_LIBRARIES)),)
	@rm -rf $(BUILD)/stage
	+@$(MAKE) install DESTDIR= PREFIX=$(abspath $(BUILD))/stage > $(BUILD)/install.log
	@CXX='$(CXX)' tools/dev/check_install.sh $(abspath $(BUILD))/stage
endif
