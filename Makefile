# Millrace.  `make demo` and `make check` are all a newcomer types; `make help` lists the rest.
#
# Rooms in order of dependency.  A room is a folder of src/: its C, and its SQL as
# types.sql, tables.sql, functions.sql and views.sql (and functions_*.sql … behind them), joined into the install script.
# *_pg.c is glue (the only C that includes postgres.h); the rest of the PURE rooms also
# compiles into unit/.  worker/ inside a room goes into the second
# library, which alone links librdkafka, libcurl and libmicrohttpd.
ROOMS   = core image nn learn registry text stream task quality gateway pipelines
PURE    = core image nn learn text quality gateway

PG_CONFIG ?= $(shell ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -V | tail -n 1)
EXTENSION  = millrace
RELEASE    = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" millrace.control)
MODULE_big = millrace
WORKER_SO  = millrace_worker.so

SRCS        = $(foreach r,$(ROOMS),$(sort $(wildcard src/$(r)/*.c)))
WORKER_SRCS = $(foreach r,$(ROOMS),$(sort $(wildcard src/$(r)/worker/*.c)))
OBJS        = $(SRCS:.c=.o)
WORKER_OBJS = $(WORKER_SRCS:.c=.o)
# files of core, stream and task that both libraries contain, each with its own process-local state
WORKER_CORE = src/stream/select_pg.o $(addprefix src/gateway/,listen.o route.o form.o auth.o rate.o) $(addprefix src/task/,tasks_pg.o policy.o policy_load_pg.o limits_pg.o window.o gate.o) $(addprefix src/core/,status.o base64.o json.o utf8.o sha256.o address.o env.o env_pg.o shared_pg.o slots_pg.o worker_pg.o meter_pg.o series_pg.o owner_pg.o process_pg.o server_pg.o)
HDRS        = $(wildcard src/*/*.h src/*/worker/*.h)

parts  = $(foreach r,$(ROOMS),$(wildcard src/$(r)/$(1).sql) $(sort $(wildcard src/$(r)/$(1)_*.sql)))
SQL    = $(foreach k,types tables functions views,$(call parts,$(k)))
SCRIPT = millrace--$(RELEASE).sql
DATA_built = $(SCRIPT)
TEMPLATES = $(filter-out $(SQL),$(wildcard src/pipelines/*.sql))
PAGES     = $(wildcard src/gateway/*.html)
MODELS    = $(wildcard models/MANIFEST.json models/*/*.onnx models/*/*.json models/*/*.model)

WARN = -Wall -Wextra -Werror -Wno-declaration-after-statement -Wno-unused-parameter
# PostgreSQL's flags were chosen for gcc; clang need not know all of them.
ifneq ($(findstring clang,$(CC)),)
WARN += -Wno-ignored-optimization-argument -Wno-unknown-warning-option
else
# as PostgreSQL 16 and newer build themselves
WARN += -Wshadow=compatible-local
endif
PG_CPPFLAGS = -Isrc -isystem /usr/include/freetype2 -isystem $(INCLUDEDIR_SERVER) -DMILLRACE_VERSION='"$(RELEASE)"'
PG_CFLAGS   = -std=gnu11 $(WARN) -ffp-contract=off
SHLIB_LINK  = -ljpeg -lpng -lfreetype -lutf8proc -lm -Wl,--version-script=src/millrace.map -Wl,-z,relro,-z,now
WORKER_LINK = -lrdkafka -lcurl -lmicrohttpd -lm -Wl,--version-script=src/millrace.map -Wl,-z,relro,-z,now

EXTRA_CLEAN = $(WORKER_OBJS) $(WORKER_SO) $(SCRIPT) unit/bin

# The drivers install what is missing and call make again; PGXS has a "check" of its own.
DRIVERS = help demo demo-events demo-answers demo-datasets models check check-full check-debian bench soak mutants
ifneq ($(filter $(DRIVERS),$(MAKECMDGOALS)),)
include mk/drivers.mk
else
INCLUDEDIR_SERVER := $(shell $(PG_CONFIG) --includedir-server)
override with_llvm := no
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

all: $(WORKER_SO)
$(OBJS) $(WORKER_OBJS): $(HDRS) millrace.control Makefile

src/%.o: CFLAGS += $(call isa_flags,$*.c) $(call loop_flags,$*.c)
$(shlib): src/millrace.map

$(WORKER_SO): $(WORKER_OBJS) $(WORKER_CORE) src/millrace.map
	$(CC) $(CFLAGS) -shared -o $@ $(WORKER_OBJS) $(WORKER_CORE) $(LDFLAGS) $(WORKER_LINK)

$(SCRIPT): $(SQL) millrace.control Makefile
	{ printf '%s\n' '\echo Use "CREATE EXTENSION millrace" to load this file. \quit'; \
	  for f in $(SQL); do echo; echo "-- $$f"; cat $$f; done; } > $@.new && mv $@.new $@

include mk/check.mk

install: install-worker
install-worker: all
	$(INSTALL_SHLIB) $(WORKER_SO) '$(DESTDIR)$(pkglibdir)/$(WORKER_SO)'
	$(MKDIR_P) '$(DESTDIR)$(datadir)/extension/millrace_pipelines' '$(DESTDIR)$(datadir)/extension/millrace_models' '$(DESTDIR)$(datadir)/extension/millrace_gateway'
	$(INSTALL_DATA) $(TEMPLATES) '$(DESTDIR)$(datadir)/extension/millrace_pipelines/'
	$(INSTALL_DATA) $(PAGES) '$(DESTDIR)$(datadir)/extension/millrace_gateway/'
	for f in $(MODELS); do $(MKDIR_P) "$(DESTDIR)$(datadir)/extension/millrace_models/$$(dirname $${f#models/})" && \
	  $(INSTALL_DATA) $$f "$(DESTDIR)$(datadir)/extension/millrace_models/$${f#models/}" || exit 1; done
.PHONY: install-worker
endif
