# The ladder: many small runs planned for the time there is, a law fitted to them, and a larger model that was held out.
#
#   make ladder                                  five minutes on two cores, on Shakespeare's plays
#   make ladder MINUTES=60
#   make -j4 ladder SHARDS=shards MINUTES=20 JOBS=4
#   make ladder-shapes                           one size, other depths, widths and heads
#
# gpt2 fit-scaling plan measures this machine for some seconds and chooses the runs; demo/ladder/rungs.mk makes them. What a
# plan asks for stands in plan.mk, so a ladder that was stopped goes on as it was planned, and a second make does nothing.

MINUTES ?= 5
JOBS ?= 2
PROSE := demo/work/prose
SHARDS ?= $(PROSE)/shards
LADDER ?= runs/ladder-$(MINUTES)m
GPT2 := bin/gpt2

.PHONY: ladder ladder-shapes

ladder: $(LADDER)/plan.mk ## Plan a ladder for MINUTES=5 on JOBS=2 cores, train it, fit a law, predict a model held out.
	@$(RUNGS) $(LADDER)/report.txt
	@cat $(LADDER)/report.txt

ladder-shapes: $(LADDER)-shapes/plan.mk ## Train models of one size and different shapes for MINUTES=5; show the spread.
	@$(RUNGS) $(LADDER)-shapes/shapes.txt LADDER=$(LADDER)-shapes
	@cat $(LADDER)-shapes/shapes.txt

RUNGS = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS)) -f demo/ladder/rungs.mk \
  LADDER='$(LADDER)' SHARDS='$(SHARDS)' GPT2='$(GPT2)'

$(LADDER)/plan.mk: | $(SHARDS)/index.json $(STAMP)
	@mkdir -p $(@D)
	$(GPT2) fit-scaling plan $(SHARDS) --minutes $(MINUTES) --jobs $(JOBS) --make -f -o $@

$(LADDER)-shapes/plan.mk: | $(SHARDS)/index.json $(STAMP)
	@mkdir -p $(@D)
	$(GPT2) fit-scaling plan $(SHARDS) --minutes $(MINUTES) --jobs $(JOBS) --shapes --make -f -o $@

# Prose alone, in a vocabulary of 512: code would be another law, and a large vocabulary mostly head.
$(PROSE)/plays.jsonl: demo/plays.py | $(STAMP)
	@mkdir -p $(@D)
	$(VENV)/bin/python demo/plays.py > $@

$(PROSE)/vocab.tiktoken: $(PROSE)/plays.jsonl
	$(GPT2) bpe-train $< --vocab-size 512 -f -o $@

$(PROSE)/plays.tok.zst: $(PROSE)/plays.jsonl $(PROSE)/vocab.tiktoken
	$(GPT2) bpe-tokenize $< --vocab $(PROSE)/vocab.tiktoken -f -o $@

$(PROSE)/shards/index.json: $(PROSE)/plays.tok.zst
	$(GPT2) pack $< --val-fraction 0.05 -f -o $(@D)
