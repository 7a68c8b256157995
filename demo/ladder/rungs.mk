# The runs of one planned ladder, the law that they follow, and what it says of the model that was held out.
#
#   make -f demo/ladder/rungs.mk -j2 LADDER=... SHARDS=... $LADDER/report.txt      (make ladder does this)
#
# The plan names the runs and their options, as gpt2 fit-scaling plan --make wrote them. A run's name is its
# configuration; its target is the manifest that a finished run leaves, so make goes on where it was stopped and trains
# nothing twice. A branch begins at a checkpoint of its trunk.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:

GPT2 ?= bin/gpt2
FIT_FLAGS ?= --law auto

PLAN ?= $(LADDER)/plan.mk
include $(PLAN)

manifests = $(patsubst %,$(LADDER)/%/manifest.json,$(1))
metrics = $(patsubst %,$(LADDER)/%/metrics.jsonl,$(1))
# Trunks count for their training curves: their last losses are of no decayed rate, and the fit leaves them out.
FITTED := $(TRUNKS) $(BRANCHES) $(filter-out $(HELD_OUT),$(RUNS))

# The longest runs stand first in the plan; those that nothing waits for would otherwise be left for the end.
$(LADDER)/runs.done: $(call manifests,$(RUNS) $(TRUNKS) $(BRANCHES))
	@touch $@

$(LADDER)/fit.jsonl: $(LADDER)/runs.done
	$(GPT2) fit-scaling $(call metrics,$(FITTED)) $(FIT_FLAGS) --plot $(LADDER)/fit.png -f -o $@

$(LADDER)/report.txt: $(LADDER)/fit.jsonl
	$(GPT2) fit-scaling predict $(call metrics,$(HELD_OUT)) --fit $< -f -o $(LADDER)/held-out.jsonl 2>&1 | tee $@

$(LADDER)/shapes.txt: $(LADDER)/runs.done
	$(GPT2) fit-scaling compare $(call metrics,$(RUNS)) --shapes -f -o $(LADDER)/shapes.jsonl 2>&1 | tee $@

$(call manifests,$(RUNS) $(TRUNKS)): $(LADDER)/%/manifest.json: | $(SHARDS)/index.json
	$(GPT2) train $(SHARDS) $(FLAGS_$*) -q -o $(@D) >/dev/null
	@touch -c $@

define branch
$(LADDER)/$(1)/manifest.json: $(LADDER)/$(2)/manifest.json
	$$(GPT2) train $$(SHARDS) --branch-from $$(<D) $$(FLAGS_$(1)) -q -o $$(@D) >/dev/null
	@touch -c $$@
endef
trunk_of = $(firstword $(foreach trunk,$(TRUNKS),$(if $(filter $(trunk)-%,$(1)),$(trunk))))
$(foreach name,$(BRANCHES),$(eval $(call branch,$(name),$(call trunk_of,$(name)))))
