# libblip2: one makefile for the library, the programs and the tests. `make help` lists targets and settings.
# Objects live in $(BUILD)/obj-<hash of compiler and flags>, so that several flag sets stand side by side.

VERSION_MAJOR := $(or $(shell sed -n 's/^.define BLIP2_VERSION_MAJOR  *//p' include/blip2.h),0)
VERSION_MINOR := $(or $(shell sed -n 's/^.define BLIP2_VERSION_MINOR  *//p' include/blip2.h),0)
VERSION_PATCH := $(or $(shell sed -n 's/^.define BLIP2_VERSION_PATCH  *//p' include/blip2.h),0)
VERSION := $(VERSION_MAJOR).$(VERSION_MINOR).$(VERSION_PATCH)
SONAME  := libblip2.so.$(VERSION_MAJOR)

# ---- settings -------------------------------------------------------------------------------------------------
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
CFLAGS     ?= -g
CXXFLAGS   ?= -g
BUILD      ?= build
PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
BINDIR     ?= $(PREFIX)/bin
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
PKG_CONFIG ?= pkg-config
PYTHON     ?= python3
WITH_IMAGE ?= 1
WITH_TEXT  ?= 1
AUTO_DEPS  ?= 1
TEST_TIMEOUT ?= 600
Q := $(if $(V),,@)

# ---- flags ----------------------------------------------------------------------------------------------------
OPT     := $(if $(DEBUG),-Og,$(if $(SAN),-O1,-O2))
CPU_OPT := $(if $(DEBUG),-Og,$(if $(SAN),-O2,-O3))
WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wvla $(if $(WERROR),-Werror)
WARN_C  := -Wstrict-prototypes -Wmissing-prototypes
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined))
COMMON  := -fPIC -fvisibility=hidden -ffp-contract=off -pthread $(SANFLAGS)
SWITCHES := -DB2_WITH_IMAGE=$(WITH_IMAGE) -DB2_WITH_TEXT=$(WITH_TEXT)

PACKAGES := zlib libcjson
PACKAGES += $(if $(filter 1,$(WITH_IMAGE)),libjpeg libpng libwebp)
PACKAGES += $(if $(filter 1,$(WITH_TEXT)),sentencepiece)
DEP_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
# Named one by one, so that a missing .pc file is reported by the probe below and nowhere else.
DEP_LIBS := $(strip -lcjson -lz $(if $(filter 1,$(WITH_IMAGE)),-ljpeg -lpng -lwebp) $(if $(filter 1,$(WITH_TEXT)),-lsentencepiece) \
            -pthread -ldl -lm)
PKG_LDFLAGS := $(shell $(PKG_CONFIG) --libs-only-L $(PACKAGES) 2>/dev/null)
LINK := $(if $(filter 1,$(WITH_TEXT)),$(CXX),$(CC))

INCLUDES := -Iinclude -Ilib -I.
C_FLAGS  = -std=c11 -D_GNU_SOURCE $(WARN) $(WARN_C) $(COMMON) $(SWITCHES) $(INCLUDES) $(DEP_CFLAGS) $(CPPFLAGS)
CC_FLAGS = -std=c++17 -D_GNU_SOURCE $(WARN) $(COMMON) $(SWITCHES) $(INCLUDES) $(DEP_CFLAGS) $(CPPFLAGS)

# What a file in kernels/cpu may use, by the last part of its name; nothing else gets -m flags.
MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
X86     := $(filter x86_64% i686% amd64%,$(MACHINE))
ISA_avx2       := -mavx2 -mfma -mf16c
ISA_avx512     := $(ISA_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl
ISA_avx512vnni := $(ISA_avx512) -mavx512vnni
ISA_avx512bf16 := $(ISA_avx512vnni) -mavx512bf16
ISA_amx        := $(ISA_avx512bf16) -mamx-tile -mamx-bf16 -mamx-int8
X86_FILES := %_avx2.c %_avx512.c %_avx512vnni.c %_avx512bf16.c %_amx.c
isa = $(if $(filter kernels/cpu/%,$1),$(CPU_OPT) $(ISA_$(lastword $(subst _, ,$(notdir $1)))),$(OPT))

HASH := $(firstword $(shell printf '%s' '$(shell $(CC) --version 2>/dev/null | head -n 1) $(CC) $(CXX) $(C_FLAGS) $(CFLAGS) \
        $(CXXFLAGS) $(OPT) $(CPU_OPT) $(LDFLAGS)' | cksum))
OBJ := $(BUILD)/obj-$(HASH)

# ---- sources --------------------------------------------------------------------------------------------------
C_SRC   := $(wildcard lib/*/*.c kernels/*.c kernels/ref/*.c kernels/cpu/*.c)
C_SRC   := $(if $(X86),$(C_SRC),$(filter-out $(X86_FILES),$(C_SRC)))
CC_SRC  := $(if $(filter 1,$(WITH_TEXT)),$(wildcard lib/text/*.cc))
# Compiled once per activation type; see kernels/act.h.
TMPL    := $(foreach f,$(C_SRC),$(if $(findstring _tmpl,$(notdir $f)),$f))
LIB_OBJ := $(patsubst %.c,$(OBJ)/%.o,$(filter-out $(TMPL),$(C_SRC))) $(patsubst %.cc,$(OBJ)/%.o,$(CC_SRC)) \
           $(foreach t,f32 bf16,$(patsubst %.c,$(OBJ)/%_$t.o,$(TMPL)))
LIB_A   := $(OBJ)/libblip2.a
LIB_SO  := $(OBJ)/libblip2.so.$(VERSION)

PROGRAMS   := $(patsubst examples/%/main.c,%,$(wildcard examples/*/main.c))
EX_COMMON  := $(patsubst %.c,$(OBJ)/%.o,$(wildcard examples/*.c))
program_obj = $(patsubst %.c,$(OBJ)/%.o,$(wildcard examples/$1/*.c)) $(EX_COMMON)
BENCHES    := $(patsubst bench/%.c,%,$(wildcard bench/*.c))

# A name that ends in _common is shared code, not a program.
tests  = $(patsubst %.c,%,$(filter-out %_common.c,$(wildcard $1)))
UNIT   := $(call tests,tests/unit/test_*.c tests/grad/grad_*.c)
GOLDEN := $(call tests,tests/golden/golden_*.c)
FUZZ   := $(call tests,tests/fuzz/fuzz_*.c)
CHECK  := $(patsubst %.c,$(OBJ)/%.o,$(wildcard tests/check/*.c))
# What several test programs share: every other C file there.
TEST_SHARED := $(patsubst %.c,$(OBJ)/%.o,$(filter-out $(addsuffix .c,$(UNIT) $(GOLDEN) $(FUZZ)) tests/fuzz/replay_main.c, \
               $(wildcard tests/*.c tests/unit/*.c tests/grad/*.c tests/golden/*.c tests/fuzz/*.c)))
TEST_A := $(if $(TEST_SHARED),$(OBJ)/libtests.a)

# ---- library and programs -------------------------------------------------------------------------------------
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all lib programs deps quickstart run-quickstart base-model test run-test test-programs check-kernels bench-kernels parity bench install \
        uninstall format format-check lint clean help fuzz cuda check-cuda-host check-cudnn gpu-programs gpu-check test-race FORCE

all: lib programs ## the library (static and shared) and the programs in $(BUILD)/bin
lib: $(BUILD)/lib/libblip2.a $(BUILD)/lib/libblip2.so.$(VERSION) $(BUILD)/lib/blip2.pc
programs: $(addprefix $(BUILD)/bin/,$(PROGRAMS))

# Which flag set the files outside obj-* were copied from.
$(BUILD)/flags: FORCE
	@mkdir -p $(BUILD)
	@[ "$$(cat $@ 2>/dev/null)" = "$(HASH)" ] || echo "$(HASH)" >$@

$(OBJ)/probe:
	@command -v $(firstword $(PKG_CONFIG)) >/dev/null || { \
	    echo "missing: $(PKG_CONFIG). Install pkg-config (apt), pkgconf (dnf), or type 'make deps'" >&2; exit 1; }
	@for p in $(PACKAGES); do $(PKG_CONFIG) --exists $$p 2>/dev/null && continue; \
	    case $$p in \
	    zlib) names='zlib1g-dev (apt), zlib-devel (dnf)' off= ;; \
	    libcjson) names='libcjson-dev (apt), cjson-devel (dnf)' off= ;; \
	    libjpeg) names='libjpeg-dev (apt), libjpeg-turbo-devel (dnf)' off='; WITH_IMAGE=0 builds without images' ;; \
	    libpng) names='libpng-dev (apt), libpng-devel (dnf)' off='; WITH_IMAGE=0 builds without images' ;; \
	    libwebp) names='libwebp-dev (apt), libwebp-devel (dnf)' off='; WITH_IMAGE=0 builds without images' ;; \
	    sentencepiece) names='libsentencepiece-dev (apt)' off='; WITH_TEXT=0 builds without the tokenizer' ;; \
	    esac; \
	    echo "missing: $$p. Install $$names, or type 'make deps'$$off" >&2; bad=1; done; [ -z "$$bad" ]
	@mkdir -p $(OBJ) && touch $@

compile_c = @mkdir -p $(@D)$(if $V,,; echo "  CC   $(patsubst $(OBJ)/%,%,$@)")
$(OBJ)/%.o: %.c | $(OBJ)/probe
	$(compile_c)
	$(Q)$(CC) $(C_FLAGS) $(EXTRA_FLAGS) $(call isa,$*) $(CFLAGS) -MMD -MP -c $< -o $@
$(patsubst %.c,$(OBJ)/%_f32.o,$(TMPL)): $(OBJ)/%_f32.o: %.c | $(OBJ)/probe
	$(compile_c)
	$(Q)$(CC) $(C_FLAGS) -DB2_ACT=0 $(call isa,$*) $(CFLAGS) -MMD -MP -c $< -o $@
$(patsubst %.c,$(OBJ)/%_bf16.o,$(TMPL)): $(OBJ)/%_bf16.o: %.c | $(OBJ)/probe
	$(compile_c)
	$(Q)$(CC) $(C_FLAGS) -DB2_ACT=1 $(call isa,$*) $(CFLAGS) -MMD -MP -c $< -o $@
$(OBJ)/%.o: %.cc | $(OBJ)/probe
	$(compile_c)
	$(Q)$(CXX) $(CC_FLAGS) $(OPT) $(CXXFLAGS) -MMD -MP -c $< -o $@

# The list of objects is a prerequisite too: a file that went away leaves the library.
$(OBJ)/objects: FORCE | $(OBJ)/probe
	@printf '%s\n' $(LIB_OBJ) >$@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(LIB_A): $(LIB_OBJ) $(OBJ)/objects
	$(if $V,,@echo "  AR   $@")
	$(Q)rm -f $@ && $(AR) rcs $@ $(LIB_OBJ)
$(LIB_SO): $(LIB_OBJ) $(OBJ)/objects lib/blip2.map
	$(if $V,,@echo "  LD   $@")
	$(Q)$(LINK) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=lib/blip2.map $(if $(SAN),,-Wl,-z,defs) $(COMMON) \
	    $(CFLAGS) $(LDFLAGS) $(PKG_LDFLAGS) $(LIB_OBJ) $(DEP_LIBS) -o $@
$(BUILD)/lib/libblip2.a: $(LIB_A) $(BUILD)/flags
	$(Q)mkdir -p $(@D) && cp -f $< $@
$(BUILD)/lib/libblip2.so.$(VERSION): $(LIB_SO) $(BUILD)/flags
	$(Q)mkdir -p $(@D) && cp -f $< $@ && ln -sf $(@F) $(@D)/$(SONAME) && ln -sf $(SONAME) $(@D)/libblip2.so

STDCXX := $(if $(filter 1,$(WITH_TEXT)),-lstdc++)
$(BUILD)/lib/blip2.pc: lib/blip2.pc.in Makefile include/blip2.h $(BUILD)/flags FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|' \
	    -e 's|@LIBS_PRIVATE@|$(PKG_LDFLAGS) $(DEP_LIBS) $(STDCXX)|' $< >$@

link = $(if $V,,@echo "  LD   $@")
link_with = $(LINK) $(COMMON) $(CFLAGS) $(LDFLAGS) $(PKG_LDFLAGS)
define program_rule
$(OBJ)/bin/$1: $(call program_obj,$1) $(LIB_A)
	@mkdir -p $$(@D)
	$$(link)
	$$(Q)$$(link_with) $$^ $$(DEP_LIBS) -o $$@
$(BUILD)/bin/$1: $(OBJ)/bin/$1 $(BUILD)/flags
	$$(Q)mkdir -p $$(@D) && cp -f $$< $$@
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rule,$p)))
$(OBJ)/examples/%.o: INCLUDES := -Iinclude -I.
# Files that become part of a program (.incbin), which -MMD does not see.
$(OBJ)/examples/prepare_fashion/attribute_sets.o: $(wildcard examples/prepare_fashion/*.json)

# ---- packages -------------------------------------------------------------------------------------------------
DEPS_BUILD := build-essential pkg-config zlib1g-dev libcjson-dev $(if $(filter 1,$(WITH_IMAGE)),libjpeg-dev libpng-dev libwebp-dev) \
              $(if $(filter 1,$(WITH_TEXT)),libsentencepiece-dev)
DEPS_TEST  := libcmocka-dev bats $(if $(filter 1,$(WITH_TEXT)),sentencepiece)
DEPS_QUICK := dataset-fashion-mnist
DEPS ?= $(DEPS_BUILD) $(DEPS_TEST) $(DEPS_QUICK)

deps: ## install the Debian packages that build, tests and quickstart need (DEPS="..." names others)
	@if ! command -v dpkg-query >/dev/null 2>&1; then \
	    echo "deps: not a Debian system; the packages are, by their Debian names: $(DEPS)"; exit 0; fi; \
	missing=; for p in $(DEPS); do \
	    [ "$$(dpkg-query -W -f '$${db:Status-Status}\n' $$p 2>/dev/null | head -n 1)" = installed ] || missing="$$missing $$p"; done; \
	[ -n "$$missing" ] || exit 0; \
	line="apt-get install -y --no-install-recommends$$missing"; \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif command -v sudo >/dev/null 2>&1; then sudo='sudo '; else \
	    echo "deps: these packages are missing; as root, type:" >&2; echo "    $$line" >&2; exit 1; fi; \
	echo "deps: $${sudo}$$line"; \
	export DEBIAN_FRONTEND=noninteractive; \
	$$sudo$$line >/dev/null 2>&1 || { $${sudo}apt-get update -q; $$sudo$$line; } || { \
	    echo "deps: that failed; as root, type:" >&2; echo "    apt-get update && $$line" >&2; exit 1; }

quickstart: ## photos in, attributes out: the whole tour on real photos
	+@[ "$(AUTO_DEPS)" = 0 ] || $(MAKE) --no-print-directory deps DEPS="$(DEPS_BUILD) $(DEPS_QUICK)"
	+@$(MAKE) --no-print-directory run-quickstart AUTO_DEPS=0
run-quickstart: all
	@BIN=$(BUILD)/bin OUT=$(BUILD)/quickstart sh examples/quickstart.sh

base-model: all ## train examples/fashion-tiny, the quickstart's base, from scratch (an hour or more)
	+@[ "$(AUTO_DEPS)" = 0 ] || $(MAKE) --no-print-directory deps DEPS="$(DEPS_QUICK) sentencepiece"
	@BIN=$(BUILD)/bin OUT=$(BUILD)/base-model sh examples/train_base.sh

# ---- tests ----------------------------------------------------------------------------------------------------
test: ## unit, kernel, gradient, golden, command-line and house tests
	+@[ "$(AUTO_DEPS)" = 0 ] || $(MAKE) --no-print-directory deps DEPS="$(DEPS_BUILD) $(DEPS_TEST)"
	+@$(MAKE) --no-print-directory run-test AUTO_DEPS=0

$(OBJ)/tests/%.o: EXTRA_FLAGS := -Itests -DB2_SRCDIR='"$(CURDIR)"'
$(OBJ)/libtests.a: $(TEST_SHARED)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
test_link = $(Q)$(link_with) $^ -lcmocka $(DEP_LIBS) -o $@
$(addprefix $(OBJ)/,$(UNIT) $(GOLDEN)): %: %.o $(TEST_A) $(LIB_A)
	$(link)
	$(test_link)
$(addprefix $(OBJ)/,$(FUZZ)): %: %.o $(OBJ)/tests/fuzz/replay_main.o $(TEST_A) $(LIB_A)
	$(link)
	$(test_link)
$(OBJ)/check_kernels: $(CHECK) $(LIB_A)
	$(link)
	$(Q)$(link_with) $^ $(DEP_LIBS) -o $@
$(BUILD)/bin-tests/check_kernels: $(OBJ)/check_kernels $(BUILD)/flags
	$(Q)mkdir -p $(@D) && cp -f $< $@

# The CUDA kernels compiled for the host (tests/cuda_host): no GPU, no CUDA headers. Fibers and gcc's thread sanitizer do not
# go together, and the switch is written for x86-64. A build without a part has the same kernels: not again there.
HOST_CUDA := $(if $(filter x86_64%,$(MACHINE)),$(if $(findstring thread,$(SAN))$(filter-out 1,$(WITH_IMAGE) $(WITH_TEXT)),,1))
CUDA_HOST_C   := $(patsubst %.c,$(OBJ)/cuda_host/%.o,$(filter-out %_load.c,$(wildcard kernels/cuda/*.c)) tests/cuda_host/host_schedule.c) \
                 $(patsubst %,$(OBJ)/tests/cuda_host/emu_%.o,runtime cublaslt cudnn)
CUDA_HOST_OBJ := $(patsubst %.cu,$(OBJ)/cuda_host/%.o,$(wildcard kernels/cuda/*.cu)) $(CUDA_HOST_C) $(OBJ)/tests/cuda_host/emu_core.o
CUDA_HOST_MODULE := $(OBJ)/emu/libblip2-cuda.so
HOST_CUDA_TESTS := $(if $(HOST_CUDA),$(OBJ)/planted_faults $(OBJ)/conformance_host $(OBJ)/check_cuda_host $(CUDA_HOST_MODULE) $(OBJ)/plan_cudnn \
                     $(OBJ)/no_driver/libcuda.so.1)
$(OBJ)/cuda_host/%.o: %.cu | $(OBJ)/probe
	$(compile_c)
	$(Q)$(CXX) -x c++ -std=c++20 -Wall -Wextra -Wno-unknown-pragmas -Wno-unused-function $(if $(WERROR),-Werror) $(SANFLAGS) $(INCLUDES) -O1 -fPIC \
	    -ffp-contract=off $(CXXFLAGS) -MMD -MP -c $< -o $@
$(OBJ)/cuda_host/%.o: %.c | $(OBJ)/probe
	$(compile_c)
	$(Q)$(CC) $(C_FLAGS) -Itests/cuda_host/include $(OPT) $(CFLAGS) -MMD -MP -c $< -o $@
$(OBJ)/tests/cuda_host/%.o: tests/cuda_host/%.cc | $(OBJ)/probe
	$(compile_c)
	$(Q)$(CXX) -std=c++20 -Wall -Wextra $(if $(WERROR),-Werror) $(SANFLAGS) $(INCLUDES) -O2 -fPIC $(CXXFLAGS) -MMD -MP -c $< -o $@
# The whole module on the host, where BLIP2_MODULE_DIR finds it.
$(CUDA_HOST_MODULE): $(CUDA_HOST_OBJ)
	@mkdir -p $(@D)
	$(link)
	$(Q)$(CXX) -shared $(SANFLAGS) $(LDFLAGS) $^ -o $@
$(OBJ)/planted_faults: $(OBJ)/cuda_host/tests/cuda_host/planted_faults.o $(OBJ)/tests/cuda_host/emu_core.o
	$(link)
	$(Q)$(CXX) $(SANFLAGS) $(LDFLAGS) $^ -o $@
$(OBJ)/check_cuda_host: $(CHECK) $(OBJ)/cuda_host/tests/gpu/check_cuda.o $(CUDA_HOST_OBJ) $(LIB_A)
	$(link)
	$(Q)$(CXX) $(COMMON) $(CFLAGS) $(LDFLAGS) $(PKG_LDFLAGS) $^ $(DEP_LIBS) -o $@
check-cuda-host: $(OBJ)/check_cuda_host ## the CUDA kernels on the host, against ref [K=name] [SEED=n]
	@$< --tier=cuda $(if $(K),--kernel=$(K)) $(if $(SEED),--seed=$(SEED))

# What cuDNN, where it is found, makes of the module's graphs: no GPU, no driver, no CUDA headers.
$(OBJ)/plan_cudnn: $(patsubst %,$(OBJ)/cuda_host/%.o,tests/gpu/plan_cudnn $(addprefix kernels/cuda/,cudnn_plan cudnn_load vendor_load))
	$(link)
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) $^ -ldl -lpthread -o $@
$(OBJ)/no_driver/libcuda.so.1: tests/gpu/no_driver.c
	@mkdir -p $(@D)
	$(link)
	$(Q)$(CC) -std=c11 $(WARN) -shared -fPIC -Wl,-soname,libcuda.so.1 $< -o $@
check-cudnn: $(OBJ)/plan_cudnn $(OBJ)/no_driver/libcuda.so.1 ## what cuDNN plans for an H100, without one [CUDNN_HOME=dir] [CUDA_HOME=dir]
	@LD_LIBRARY_PATH="$(OBJ)/no_driver$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}" $< || [ $$? = 77 ] # 77: skipped, with the reason

# ---- the CUDA module ------------------------------------------------------------------------------------------
# Needs nvcc; the CUDA runtime is linked in, so that at run time it takes a driver and nothing else.
CUDA_WHEEL := $(abspath $(BUILD))/nvcc/nvidia/cu13
CUDA_HOME ?= $(firstword $(wildcard /usr/local/cuda $(sort $(wildcard /usr/local/cuda-*)) $(CUDA_WHEEL)))
CUDA_LIB  := $(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/lib))
NVCC      ?= $(or $(wildcard $(CUDA_HOME)/bin/nvcc),nvcc)
CUDA_ARCH ?= 80 86 89 90a
CUDA_PTX  ?= 90
CUDA_CODE := $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$a,code=sm_$a) $(foreach a,$(CUDA_PTX),-gencode arch=compute_$a,code=compute_$a)
CUDA_OBJ  := $(patsubst %,$(BUILD)/cuda/%.o,$(basename $(notdir $(wildcard kernels/cuda/*.cu kernels/cuda/*.c))))
# With other flags (LINEINFO=1, CUDA_ARCH) nothing old is linked in.
# --compress-mode is 12.8's.
nvcc_small = $(if $(findstring compress-mode,$(shell $(NVCC) --help 2>/dev/null)),--compress-mode=size,-Xfatbin=-compress-all)
NVCC_SMALL = $(eval NVCC_SMALL := $(nvcc_small))$(NVCC_SMALL)
NVCC_FLAGS = -O3 -std=c++17 $(CUDA_CODE) $(if $(LINEINFO),-lineinfo) -Xptxas --warn-on-spills,-v $(NVCC_SMALL)
$(BUILD)/cuda/nvcc-flags: FORCE
	@mkdir -p $(@D); [ "$$(cat $@ 2>/dev/null)" = "$(NVCC) $(NVCC_FLAGS)" ] || echo "$(NVCC) $(NVCC_FLAGS)" >$@
# No nvcc here: NVIDIA's wheels have one, which goes into the build folder (250 MB) and nowhere else.
HAVE_NVCC := $(shell command -v $(NVCC))
cuda: $(if $(HAVE_NVCC),$(BUILD)/lib/blip2/libblip2-cuda.so,cuda-by-wheel) ## the CUDA module (gets nvcc if there is none) [CUDA_HOME=dir] [CUDA_ARCH="80 90a"] [LINEINFO=1]
.PHONY: cuda-by-wheel
cuda-by-wheel: $(CUDA_WHEEL)/bin/nvcc
	@$(MAKE) --no-print-directory cuda CUDA_HOME=$(CUDA_WHEEL) NVCC=$<
$(CUDA_WHEEL)/bin/nvcc:
	@echo "  GET  nvcc (NVIDIA's Python wheels, into $(BUILD)/nvcc)"
	$(Q)python3 -m venv $(BUILD)/nvcc/venv || { echo "missing: python3-venv. Type: apt-get install -y python3-venv" >&2; exit 1; }
	$(Q)$(BUILD)/nvcc/venv/bin/pip install -q --no-deps --target $(BUILD)/nvcc nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 \
	    nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
$(BUILD)/cuda/%.o: kernels/cuda/%.cu $(BUILD)/cuda/nvcc-flags
	@mkdir -p $(@D); command -v $(NVCC) >/dev/null || { echo "missing: nvcc. Install the CUDA toolkit (12.4 or newer), or set CUDA_HOME" >&2; exit 1; }
	@echo "  NVCC $<"
	$(Q)$(NVCC) $(NVCC_FLAGS) $(INCLUDES) -MMD -MP \
	    -Xcompiler -fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics -c $< -o $@ 2>$(@:.o=.ptxas) || { cat $(@:.o=.ptxas) >&2; exit 1; }
$(BUILD)/cuda/%.o: kernels/cuda/%.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(C_FLAGS) -isystem $(CUDA_HOME)/include $(OPT) -fPIC -fvisibility=hidden $(CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/lib/blip2/libblip2-cuda.so: $(CUDA_OBJ)
	@mkdir -p $(@D)
	@echo "  LD   $@"
	$(Q)$(CC) -shared $(LDFLAGS) -Wl,-z,defs -Wl,--exclude-libs,ALL $^ -L$(CUDA_LIB) -lcudart_static -lpthread -ldl -lrt -lm -o $@
	@sh tests/gpu/resources.sh $(BUILD)/cuda kernels/cuda/resources.txt$(if $(WERROR),, || true)

# What a machine with a GPU needs of a build: carry $(BUILD)/gpu and lib/blip2 (30 MB together), and the tree.
GPU_OBJ  := $(BUILD)/cuda/tests/check_cuda.o $(BUILD)/cuda/tests/check_memory.o
GPU_LIBS := -L$(CUDA_LIB) -lcudart_static -lpthread -ldl -lrt
GPU_PROGRAMS := $(addprefix $(BUILD)/gpu/,answer check_cuda conformance golden_gradients golden_model golden_stages golden_train init_model train_fashion vqa)
carried = @mkdir -p $(@D) && cp -f $< $@ && strip --strip-debug $@
$(GPU_OBJ): $(BUILD)/cuda/tests/%.o: tests/gpu/%.c | $(OBJ)/probe
	@mkdir -p $(@D)
	$(Q)$(CC) $(C_FLAGS) -isystem $(CUDA_HOME)/include $(OPT) $(CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/gpu/check_cuda: $(CHECK) $(GPU_OBJ) $(CUDA_OBJ) $(LIB_A)
	@mkdir -p $(@D)
	$(link)
	$(Q)$(link_with) $^ $(DEP_LIBS) $(GPU_LIBS) -o $@
	@strip --strip-debug $@
$(BUILD)/gpu/conformance: tests/gpu/conformance.cu kernels/cuda/common.cuh
	@mkdir -p $(@D)
	@echo "  NVCC $<"
	$(Q)$(NVCC) -O2 -std=c++17 $(INCLUDES) $(CUDA_CODE) $< -o $@
$(BUILD)/gpu/answer: $(BUILD)/bin-bench/answer
	$(carried)
$(BUILD)/gpu/golden_%: $(OBJ)/tests/golden/golden_%
	$(carried)
$(addprefix $(BUILD)/gpu/,init_model train_fashion vqa): $(BUILD)/gpu/%: $(BUILD)/bin/%
	$(carried)
# The libraries they are linked with, the system's own aside: for a machine that has not got them.
$(BUILD)/gpu/lib: $(GPU_PROGRAMS)
	@mkdir -p $@ && ldd $^ | awk '$$3 ~ /^\// && $$1 !~ /^lib(c|m)\.so/ { print $$3 }' | sort -u | xargs cp -fL -t $@ && touch $@
gpu-programs: all cuda $(GPU_PROGRAMS) $(BUILD)/gpu/lib ## what `make gpu-check` runs (needs nvcc, no GPU)
gpu-check: gpu-programs ## everything that is to be seen on a GPU; results to bench/results
	@BUILD="$(BUILD)" sh tests/gpu/run.sh
$(OBJ)/conformance_host: $(OBJ)/cuda_host/tests/gpu/conformance.o $(OBJ)/tests/cuda_host/emu_core.o
	$(link)
	$(Q)$(CXX) $(SANFLAGS) $(LDFLAGS) $^ -o $@

# The same with each CUDA thread a fiber of ThreadSanitizer (clang's): races in shared and global memory, whatever the order.
NO_ASLR  := $(shell setarch -R true 2>/dev/null && echo setarch -R)
RACE_OBJ := $(patsubst %.cu,$(OBJ)/race/%.o,$(wildcard kernels/cuda/*.cu))
$(OBJ)/race/%.o: %.cu | $(OBJ)/probe
	$(compile_c)
	$(Q)clang++ -x c++ -std=c++20 -w -fsanitize=thread $(INCLUDES) -O1 -g -fPIC -ffp-contract=off -MMD -MP -c $< -o $@
$(OBJ)/race/emu_core.o: tests/cuda_host/emu_core.cc | $(OBJ)/probe
	$(compile_c)
	$(Q)clang++ -std=c++20 -w -DEMU_TSAN $(INCLUDES) -O2 -fPIC -MMD -MP -c $< -o $@
$(OBJ)/race/planted_faults: $(OBJ)/race/tests/cuda_host/planted_faults.o $(OBJ)/race/emu_core.o
	$(link)
	$(Q)clang++ -fsanitize=thread $^ -o $@
$(OBJ)/race/check: $(CHECK) $(OBJ)/cuda_host/tests/gpu/check_cuda.o $(RACE_OBJ) $(OBJ)/race/emu_core.o $(CUDA_HOST_C) $(LIB_A)
	$(link)
	$(Q)clang++ -fsanitize=thread $(PKG_LDFLAGS) $^ $(DEP_LIBS) -o $@
test-race: $(OBJ)/race/planted_faults $(OBJ)/race/check ## races in the CUDA kernels, on the host (needs clang) [K=name] [SEED=n]
	@$(NO_ASLR) $(OBJ)/race/planted_faults
	@TSAN_OPTIONS=halt_on_error=1:exitcode=86 $(NO_ASLR) $(OBJ)/race/check --tier=cuda --once $(if $(K),--kernel=$(K)) $(if $(SEED),--seed=$(SEED))

# T=part-of-a-name builds and runs some of them, and the rest of the tree only where a script needs it.
# The shell checks look at sources and symbols, which a sanitizer does not change.
HOUSE    := $(if $(HOST_CUDA),tests/cuda_host/run.sh tests/cuda_host/module.sh) $(if $(SAN),,$(wildcard $(addprefix tests/,layers.sh symbols.sh headers.sh style.sh install.sh docs.sh)))
selected  = $(strip $(if $(T),$(foreach f,$1,$(if $(findstring $(T),$f),$f)),$1))
TEST_PROGRAMS := $(call selected,$(addprefix $(OBJ)/,$(UNIT) $(GOLDEN) $(FUZZ)) $(if $(CHECK),$(BUILD)/bin-tests/check_kernels))
TEST_SCRIPTS  := $(call selected,$(wildcard tests/cli/*.bats) $(HOUSE))
test-programs: $(TEST_PROGRAMS) $(if $(filter tests/cuda_host/run.sh tests/cli/cuda.bats,$(TEST_SCRIPTS)),$(HOST_CUDA_TESTS)) \
               $(if $(filter tests/cli/compare_kernels.bats,$(TEST_SCRIPTS)),$(OBJ)/check_kernels $(if $(HOST_CUDA),$(OBJ)/check_cuda_host)) \
               $(if $(filter tests/cuda_host/module.sh,$(TEST_SCRIPTS)),$(CUDA_HOST_MODULE) $(addprefix $(OBJ)/,$(GOLDEN) tests/unit/test_session))
run-test: $(if $(TEST_SCRIPTS),all) test-programs
	@CC="$(CC)" CXX="$(CXX)" BUILD="$(BUILD)" OBJ="$(OBJ)" SAN="$(SAN)" WITH_IMAGE=$(WITH_IMAGE) WITH_TEXT=$(WITH_TEXT) \
	MAKE="$(MAKE)" TEST_TIMEOUT=$(TEST_TIMEOUT) sh tests/run_tests.sh $(TEST_PROGRAMS) $(TEST_SCRIPTS)

# What to check or time: K=kernel TIER=tier S=shape (parts of names, or shell patterns in quotes), DTYPE=f32|bf16, SEED=n.
COMMIT  = $(or $(shell git rev-parse --short HEAD 2>/dev/null),unknown)
CASES   = $(if $(K),'--kernel=$(K)') $(if $(TIER),'--tier=$(TIER)') $(if $(S),'--shape=$(S)') $(if $(DTYPE),--dtype=$(DTYPE)) $(if $(SEED),--seed=$(SEED))
TIMES   = --bench --commit=$(COMMIT) $(if $(BATCH),--batch=$(BATCH)) $(if $(JSON),--json=$(JSON))
check-kernels: $(BUILD)/bin-tests/check_kernels ## every kernel, every CPU tier, against ref [K=name] [TIER=t] [SEED=n] [BENCH=1] [LIST=1]
	@$< $(CASES) $(if $(BENCH),$(TIMES)) $(if $(LIST),--list)
# Where make gpu-programs has built them, the kernels of the GPU: TIER=cuda.
bench-kernels: $(BUILD)/bin-tests/check_kernels ## times of kernels [K=name] [TIER=t] [S=shape] [DTYPE=bf16] [BATCH=1,16] [JSON=file]
	@$(if $(filter cuda,$(TIER)),$(BUILD)/gpu/check_cuda,$<) $(CASES) $(TIMES)

# PARITY_PYTHON names an interpreter that has the packages already; PARITY_TORCH another torch requirement.
PARITY_PYTHON ?= $(BUILD)/parity/bin/python
$(BUILD)/parity/bin/python: tests/parity/requirements.txt
	$(PYTHON) -m venv $(BUILD)/parity
	$(if $(PARITY_TORCH),$(BUILD)/parity/bin/pip install -q $(PARITY_TORCH))
	$(BUILD)/parity/bin/pip install -q -r tests/parity/requirements.txt
	@touch $@
parity: all $(PARITY_PYTHON) ## live comparison with transformers, PEFT and Pillow, in a Python environment of its own
	CC="$(CC)" $(PARITY_PYTHON) tests/parity/run.py --bin $(BUILD)/bin $(if $(SEED),--seed $(SEED))

define bench_rule
$(BUILD)/bin-bench/$1: $(OBJ)/bench/$1.o $(LIB_A) $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(link)
	$$(Q)$$(link_with) $$(filter %.o %.a,$$^) $$(DEP_LIBS) -o $$@
endef
$(foreach b,$(BENCHES),$(eval $(call bench_rule,$b)))
bench: all $(addprefix $(BUILD)/bin-bench/,$(BENCHES)) ## tables of speed and memory, printed and as JSON lines in bench/results
	$(Q)bench/run.sh $(BUILD)

# libFuzzer needs clang: T=seconds per target, ONLY=name for one of them.
fuzz: ## run every fuzz target for T=60 seconds (clang)
	+@$(MAKE) --no-print-directory run-fuzz CC=clang CXX=clang++ SAN=address,undefined,fuzzer-no-link BUILD=$(BUILD)/fuzz
FUZZERS := $(addprefix $(OBJ)/libfuzzer/,$(filter fuzz_$(or $(ONLY),%),$(notdir $(FUZZ))))
$(OBJ)/libfuzzer/%: $(OBJ)/tests/fuzz/%.o $(TEST_A) $(LIB_A)
	@mkdir -p $(@D)
	$(link)
	$(Q)$(link_with) -fsanitize=fuzzer $^ $(DEP_LIBS) -o $@
.PHONY: run-fuzz
run-fuzz: $(FUZZERS)
	@for f in $^; do n=$${f##*/fuzz_}; mkdir -p $(BUILD)/corpus/$$n; echo "== $$n"; \
	    $$f -max_total_time=$(or $(T),60) -rss_limit_mb=4096 -artifact_prefix=$(BUILD)/corpus/ $(BUILD)/corpus/$$n \
	    $(wildcard tests/fuzz/corpus)/$$n || exit 1; done

# ---- install --------------------------------------------------------------------------------------------------
MAN_PAGES = $(wildcard docs/man/*.[1357])
install: all ## programs as blip2-NAME, libraries, headers, man pages (PREFIX, DESTDIR, LIBDIR)
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR)/blip2
	for p in $(PROGRAMS); do install -m 755 $(BUILD)/bin/$$p $(DESTDIR)$(BINDIR)/blip2-$$p || exit 1; done
	install -m 644 $(BUILD)/lib/libblip2.a $(DESTDIR)$(LIBDIR)/
	install -m 755 $(BUILD)/lib/libblip2.so.$(VERSION) $(DESTDIR)$(LIBDIR)/
	if [ -f $(BUILD)/lib/blip2/libblip2-cuda.so ]; then install -d $(DESTDIR)$(LIBDIR)/blip2 && \
	    install -m 755 $(BUILD)/lib/blip2/libblip2-cuda.so $(DESTDIR)$(LIBDIR)/blip2/; fi
	ln -sf libblip2.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libblip2.so
	install -m 644 $(BUILD)/lib/blip2.pc $(DESTDIR)$(LIBDIR)/pkgconfig/
	install -m 644 include/blip2.h $(DESTDIR)$(INCLUDEDIR)/
	install -m 644 include/blip2/*.h $(DESTDIR)$(INCLUDEDIR)/blip2/
	for m in $(MAN_PAGES); do d=$(DESTDIR)$(MANDIR)/man$${m##*.}; install -d $$d && install -m 644 $$m $$d/ || exit 1; done

uninstall: ## remove what install put there (same PREFIX, DESTDIR, LIBDIR)
	for p in $(PROGRAMS); do rm -f $(DESTDIR)$(BINDIR)/blip2-$$p; done
	rm -f $(DESTDIR)$(LIBDIR)/libblip2.a $(DESTDIR)$(LIBDIR)/libblip2.so* $(DESTDIR)$(LIBDIR)/pkgconfig/blip2.pc
	rm -f $(DESTDIR)$(LIBDIR)/blip2/libblip2-cuda.so && rmdir $(DESTDIR)$(LIBDIR)/blip2 2>/dev/null || true
	rm -f $(DESTDIR)$(INCLUDEDIR)/blip2.h && rm -rf $(DESTDIR)$(INCLUDEDIR)/blip2
	for m in $(notdir $(MAN_PAGES)); do rm -f $(DESTDIR)$(MANDIR)/man$${m##*.}/$$m; done

# ---- house ----------------------------------------------------------------------------------------------------
FORMATTED = tests/gpu/conformance.cu $(wildcard include/*.h include/*/*.h lib/*/*.[ch] lib/*/*.cc kernels/*.[ch] kernels/*/*.[ch] kernels/cuda/*.cu \
            kernels/cuda/*.cuh examples/*.[ch] examples/*/*.[ch] bench/*.[ch] tests/*.[ch] tests/*/*.[ch] \
            tests/cuda_host/*.cc tests/cuda_host/*.cu)
format: ## rewrite the C files as .clang-format says
	clang-format -i $(FORMATTED)
format-check: ## say which C files clang-format would change
	clang-format --dry-run -Werror $(FORMATTED)
lint: ## cppcheck
	cppcheck -q --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,portability --suppressions-list=tests/cppcheck.txt \
	    $(INCLUDES) $(SWITCHES) -D_GNU_SOURCE $(filter-out $(TMPL),$(C_SRC)) $(wildcard examples/*/*.c)
clean: ## remove $(BUILD)
	rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16
	@echo
	@echo 'settings: CC CXX CFLAGS LDFLAGS PREFIX DESTDIR LIBDIR BUILD=dir DEBUG=1 SAN=address,undefined|thread WERROR=1 V=1'
	@echo '          WITH_IMAGE=0 WITH_TEXT=0 AUTO_DEPS=0 TEST_TIMEOUT=600; make test T=part-of-a-name'

-include $(shell find $(OBJ) $(BUILD)/cuda -name '*.d' 2>/dev/null)
