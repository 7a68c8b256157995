# The demo's ladder: nine runs, three widths by three lengths, each with its own schedule. It stands in for a plan.mk.

RUNG_SHAPES ?= l2-e16 l2-e32 l2-e64
RUNG_TOKENS ?= 128Ki 384Ki 1Mi
RUNG_FLAGS ?= --context 128 --batch-tokens 512 --warmup 60 --eval-tokens 32768 --eval-every 100000 --dtype fp32 --threads 1
# The peak learning rate of a width was found by trial on the shortest rungs: about 0.04 / sqrt(width).
LR_e16 ?= 1e-2
LR_e32 ?= 7e-3
LR_e64 ?= 5e-3

RUNS := $(foreach shape,$(RUNG_SHAPES),$(foreach tokens,$(RUNG_TOKENS),$(shape)-t$(tokens)))
part = $(word $(2),$(subst -, ,$(1)))
$(foreach run,$(RUNS),$(eval FLAGS_$(run) := --layers $(patsubst l%,%,$(call part,$(run),1)) \
  --embd $(patsubst e%,%,$(call part,$(run),2)) --tokens $(patsubst t%,%,$(call part,$(run),3)) \
  $(addprefix --lr ,$(LR_$(call part,$(run),2))) $(RUNG_FLAGS)))
