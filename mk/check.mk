# The programs that tests and the demonstration use.  Included by the Makefile after PGXS.

# Server-less tests: the pure cores under ASan and UBSan, one program per unit/test_*.c.
# Test sources may include unit.h and any header of src/.
PURE_SRCS  = $(filter-out %_pg.c,$(foreach r,$(PURE),$(sort $(wildcard src/$(r)/*.c)))) \
             src/stream/worker/decode.c src/stream/worker/json.c src/stream/worker/format.c src/stream/worker/csv.c src/stream/worker/avro.c src/stream/worker/avro_schema.c src/stream/worker/avro_text.c src/stream/worker/scalar.c \
             src/task/policy.c src/task/window.c src/task/gate.c src/task/worker/sigv4.c src/task/worker/s3.c src/task/worker/outcome.c src/task/worker/dialect.c src/task/worker/dialect_read.c src/task/worker/dialect_stream.c src/task/worker/dialect_error.c
UNIT_CC   ?= gcc
UNIT_FLAGS = -std=gnu11 -g -O1 -Wall -Wextra -Werror -Wno-unused-parameter -ffp-contract=off -Isrc -Iunit -isystem /usr/include/freetype2 -D_GNU_SOURCE \
             -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
UNIT_LIBS  = -ljpeg -lpng -lfreetype -lutf8proc -lm -ldl -lpthread
UNIT_OBJS  = $(PURE_SRCS:src/%.c=build/unit/%.o)
UNIT_TESTS = $(patsubst unit/%.c,unit/bin/%,$(sort $(wildcard unit/test_*.c)))
UNIT_TOOLS = $(patsubst unit/tools/%.c,unit/bin/%,$(sort $(wildcard unit/tools/*.c)))

# Instruction sets by file name, for the extension and for the unit tests alike.
avx512_flags = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c
isa_flags = $(if $(filter %_amx.c,$(1)),$(avx512_flags) -mavx512vnni -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16,\
            $(if $(filter %_avx512_bf16.c,$(1)),$(avx512_flags) -mavx512vnni -mavx512bf16,\
            $(if $(filter %_avx512_vnni.c,$(1)),$(avx512_flags) -mavx512vnni,\
            $(if $(filter %_avx512.c,$(1)),$(avx512_flags),\
            $(if $(filter %_avx2.c,$(1)),-mavx2 -mfma -mf16c)))))
# Plain kernels whose loops the compiler shall vectorise (not under the sanitizers).
loop_flags = $(if $(filter %/ops_arith.c %/ops_math.c %/ops_cast.c %/ops_reduce.c %/ops_conv.c %/ops_pool.c \
             %/sketch_numbers.c %/ops_matrix.c %/ops_linalg.c %/ops_moments.c %/ops_resize.c %/ops_gather.c %image/quality.c %image/damage.c %image/hash.c,$(1)),-O3 -fno-math-errno -fno-trapping-math)

build/unit/%.o: src/%.c $(HDRS)
	@mkdir -p $(@D)
	$(UNIT_CC) $(UNIT_FLAGS) $(call isa_flags,$<) -c -o $@ $<

build/unit/libpure.a: $(UNIT_OBJS)
	@rm -f $@ && ar rcsP $@ $^

unit/bin/%: unit/%.c build/unit/libpure.a $(wildcard unit/*.h)
	@mkdir -p $(@D)
	$(UNIT_CC) $(UNIT_FLAGS) -o $@ $< build/unit/libpure.a $(UNIT_LIBS)

# Command-line tools that tests drive: optimised, without sanitizers.
TOOL_FLAGS = -std=gnu11 -g -O2 -Wall -Wextra -Werror -Wno-unused-parameter -ffp-contract=off -Isrc -Iunit -isystem /usr/include/freetype2 -D_GNU_SOURCE
build/tool/%.o: src/%.c $(HDRS)
	@mkdir -p $(@D)
	$(UNIT_CC) $(TOOL_FLAGS) $(call isa_flags,$<) $(call loop_flags,$<) -c -o $@ $<
build/tool/libpure.a: $(PURE_SRCS:src/%.c=build/tool/%.o)
	@rm -f $@ && ar rcsP $@ $^
unit/bin/%: unit/tools/%.c build/tool/libpure.a $(wildcard unit/tools/*.h)
	@mkdir -p $(@D)
	$(UNIT_CC) $(TOOL_FLAGS) -o $@ $< build/tool/libpure.a $(UNIT_LIBS)
build/bench/%: bench/%.c build/tool/libpure.a
	@mkdir -p $(@D)
	$(UNIT_CC) $(TOOL_FLAGS) -o $@ $< build/tool/libpure.a $(UNIT_LIBS)

.PHONY: unit unit-build tools
unit-build: $(UNIT_TESTS)
tools: $(UNIT_TOOLS)
# gcc 13 and 14 misalign AVX-512 locals on ASan's heap-made stack frames (GCC bug 110027): off.
unit: unit-build
	@export ASAN_OPTIONS=detect_stack_use_after_return=0; fail=0; for t in $(UNIT_TESTS); do echo "# $$t"; $$t || fail=1; done; exit $$fail

# The embedded broker and the sender of the demonstration.
build/millrace-broker: tools/broker.c
	@mkdir -p $(@D)
	$(CC) $(TOOL_FLAGS) -o $@ $< -lrdkafka
# The sender reads images, and needs no other room: the engine's kernels take minutes to compile.
SEND_OBJS = $(patsubst src/%.c,build/tool/%.o,$(filter src/core/% src/image/%,$(PURE_SRCS)))
build/millrace-send: tools/send.c $(SEND_OBJS)
	@mkdir -p $(@D)
	$(CC) $(TOOL_FLAGS) -I$(shell $(PG_CONFIG) --includedir) -o $@ $< $(SEND_OBJS) -L$(shell $(PG_CONFIG) --libdir) -lrdkafka -lpq $(UNIT_LIBS)

# The workers' library of the fault suite: the same sources with failpoints (t/failpoint).
FAULT_OBJS = $(patsubst src/%.c,build/faults/%.o,$(WORKER_SRCS) $(WORKER_CORE:.o=.c)) build/faults/failpoint.o
build/faults/%.o: src/%.c $(HDRS) Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CPPFLAGS) -DMR_FAILPOINTS -c -o $@ $<
build/faults/failpoint.o: t/failpoint/failpoint_pg.c src/core/failpoint.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CPPFLAGS) -DMR_FAILPOINTS -c -o $@ $<
build/faults/millrace_worker.so: $(FAULT_OBJS) src/millrace.map
	$(CC) $(CFLAGS) -shared -o $@ $(FAULT_OBJS) $(LDFLAGS) $(WORKER_LINK)

# libFuzzer harnesses, with clang: make fuzz builds unit/bin/fuzz_*; run one with a corpus folder.
FUZZ_CC   ?= $(firstword $(shell ls /usr/bin/clang /usr/bin/clang-[0-9]* 2>/dev/null) clang)
FUZZ_FLAGS = $(filter-out -fsanitize=%,$(UNIT_FLAGS)) -fsanitize=address,undefined -fno-sanitize-recover=all
build/fuzz/%.o: src/%.c $(HDRS)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link $(call isa_flags,$<) -c -o $@ $<
# A harness fuzz_<room>[_topic] is linked with what it uses of core and its room: the engine's kernels
# take minutes to compile under these sanitizers.
fuzz_objs  = $(filter build/fuzz/core/% build/fuzz/$(firstword $(subst _, ,$(1)))/%,$(PURE_SRCS:src/%.c=build/fuzz/%.o))
unit/bin/fuzz_%: unit/fuzz_%.c $(PURE_SRCS) $(HDRS)
	@mkdir -p $(@D)
	@$(MAKE) -s --no-print-directory $(call fuzz_objs,$*)
	@rm -f build/fuzz/$*.a && ar rcsP build/fuzz/$*.a $(call fuzz_objs,$*)
	$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $< build/fuzz/$*.a $(UNIT_LIBS)
.PHONY: fuzz
fuzz: $(patsubst unit/%.c,unit/bin/%,$(sort $(wildcard unit/fuzz_*.c)))
