# The ladder: many small runs on one set of shards, a scaling law fitted to them, and a prediction to check it by.
#
#   make ladder                                    the demo's shards and nine rungs
#   make -j2 ladder SHARDS=shards LADDER=ladder RUNG_SHAPES="l2-e16 l2-e64" RUNG_TOKENS="128Ki 1Mi"
#
# A rung's name is its configuration: lLAYERS-eWIDTH-tTOKENS. Its target is the manifest that a finished run leaves, so
# make goes on where it was stopped and trains nothing twice.

SHARDS ?= demo/work/shards
LADDER ?= demo/work/ladder
RUNG_SHAPES ?= l2-e16 l2-e32 l2-e64
RUNG_TOKENS ?= 128Ki 384Ki 1Mi
RUNGS ?= $(foreach shape,$(RUNG_SHAPES),$(foreach tokens,$(RUNG_TOKENS),$(shape)-t$(tokens)))
RUNG_FLAGS ?= --context 128 --batch-tokens 512 --warmup 60 --eval-tokens 32768 --eval-every 100000 --dtype fp32 --threads 1
# The peak learning rate of a width was found by trial on the shortest rungs: about 0.04 / sqrt(width). Small batches
# matter more than fast ones: a rung that takes too few steps says nothing about its size.
LR_e16 ?= 1e-2
LR_e32 ?= 7e-3
LR_e64 ?= 5e-3
BUDGETS ?= 1e15 1e18

GPT2 := bin/gpt2
RUNG_MANIFESTS := $(RUNGS:%=$(LADDER)/%/manifest.json)

.PHONY: ladder

ladder: $(LADDER)/fit.jsonl ## Train a ladder of small models and fit a scaling law to it.
	@$(GPT2) plot $(LADDER)/fit.jsonl

$(LADDER)/fit.jsonl: $(RUNG_MANIFESTS)
	$(GPT2) fit-scaling $(RUNG_MANIFESTS:manifest.json=metrics.jsonl) $(BUDGETS:%=--flops %) \
	  --plot $(LADDER)/fit.png -f -o $@

rung = $(subst -, ,$*)

$(RUNG_MANIFESTS): $(LADDER)/%/manifest.json: $(SHARDS)/index.json | $(STAMP)
	$(GPT2) train $(SHARDS) --layers $(patsubst l%,%,$(word 1,$(rung))) --embd $(patsubst e%,%,$(word 2,$(rung))) \
	  --tokens $(patsubst t%,%,$(word 3,$(rung))) $(addprefix --lr ,$(LR_$(word 2,$(rung)))) $(RUNG_FLAGS) -q -o $(@D) >/dev/null
	@touch -c $@
