# make detect: can one tell what the demo's model writes from the held-out text that it was trained to imitate?
#
#   make detect                                                 the demo's model, three ways of sampling
#   make -j2 detect DETECT_MODEL=runs/small DETECT_SHARDS=shards DETECT_VOCAB=vocab.tiktoken DETECT_SETTINGS="t1 k40"
#
# Passages of the validation split are cut in two: the model goes on from the first words, and so did a person. One
# detector is trained for each way of sampling and each method, as OpenAI did, and one on all samples together; each is
# tested on passages that it was not made with. A setting's name is t (temperature), k (top-k) or p (top-p) and a number.

DETECT ?= $(DEMO)/detect
DETECT_MODEL ?= $(DEMO)/runs/main
DETECT_SHARDS ?= $(DEMO)/shards
DETECT_VOCAB ?= $(DEMO)/vocab.tiktoken
DETECT_SETTINGS ?= t1 k40 p0.9
DETECT_METHODS ?= tfidf logprob logrank
DETECT_PASSAGES ?= --prompt-words 8 --words 24
DETECT_FLAGS ?= --max-tokens 88 --batch 64 --dtype fp32

DETECT_SAMPLES := $(DETECT_SETTINGS:%=$(DETECT)/sample-%.jsonl)
DETECT_REPORTS := $(foreach method,$(DETECT_METHODS),$(DETECT_SETTINGS:%=$(DETECT)/$(method)-%.report.jsonl)) \
  $(DETECT)/tfidf-all.report.jsonl
# The options of a setting by its name, and what a method's detectors need beside their texts.
detect-sampling = $(if $(filter t%,$1),--temperature $(1:t%=%),$(if $(filter k%,$1),--top-k $(1:k%=%),--top-p $(1:p%=%)))
detect-model = $(if $(filter tfidf-%,$1),,--model $(DETECT_MODEL))
detect-texts = --human $(DETECT)/passages.jsonl \
  $(if $(filter %-all,$1),$(DETECT_SAMPLES:%=--generated %),--generated $(DETECT)/sample-$(lastword $(subst -, ,$1)).jsonl)

.PHONY: detect

detect: $(STAMP) ## Sample from the demo's model, train detectors of its text, and say how good they are.
	@if $(MAKE) --no-print-directory -q $(DETECT)/summary.txt; then \
	  echo "make detect: everything is done and nothing has changed; the summary is $(DETECT)/summary.txt"; \
	else \
	  $(MAKE) --no-print-directory $(DETECT)/summary.txt; \
	  cat $(DETECT)/summary.txt; \
	fi

$(DETECT)/passages.jsonl: $(DETECT_SHARDS)/index.json demo/passages.py | $(STAMP)
	@mkdir -p $(@D)
	$(GPT2) shard cat --json --split val $(DETECT_SHARDS) | \
	  $(PY) demo/passages.py --vocab $(DETECT_VOCAB) $(DETECT_PASSAGES) > $@

$(DETECT_SAMPLES): $(DETECT)/sample-%.jsonl: $(DETECT)/passages.jsonl $(DETECT_MODEL)/manifest.json
	$(GPT2) sample $(DETECT_MODEL) --prompts $< $(call detect-sampling,$*) $(DETECT_FLAGS) --json -f -o $@

# A detector appears whole or not at all, so it is what says that this was done.
$(DETECT_REPORTS:.report.jsonl=.detector): $(DETECT)/%.detector: $(DETECT_SAMPLES)
	$(GPT2) detect train --method $(firstword $(subst -, ,$*)) $(call detect-model,$*) $(call detect-texts,$*) -f -o $@

$(DETECT_REPORTS): $(DETECT)/%.report.jsonl: $(DETECT)/%.detector
	$(GPT2) detect report $< $(call detect-model,$*) $(call detect-texts,$*) -q -f -o $@

$(DETECT)/summary.txt: $(DETECT_REPORTS) demo/detect_summary.py
	@$(PY) demo/detect_summary.py $(DETECT_REPORTS) > $@
