# make demo: the whole pipeline on real text, offline, on a CPU. Every stage is the real command; a second make does nothing.

DEMO := demo/work
PY := $(VENV)/bin/python
MODEL := --layers 4 --embd 128 --context 128
MAIN_FLAGS ?= --batch-tokens 1024 --steps 640 --lr 2.5e-3 --warmup 100 --eval-every 100 --eval-tokens 32768 --dtype fp32

.PHONY: demo demo-clean

demo: $(STAMP) ## Scrape, tokenise, train, evaluate, sample and fit a law, in minutes; results in demo/work.
	@if $(MAKE) --no-print-directory -q $(DEMO)/summary.txt; then \
	  echo "make demo: everything is done and nothing has changed; the summary is $(DEMO)/summary.txt (make demo-clean starts over)"; \
	else \
	  began=$$SECONDS; $(MAKE) --no-print-directory $(DEMO)/summary.txt; \
	  cat $(DEMO)/summary.txt; echo "make demo: $$((SECONDS - began)) s"; \
	fi

demo-clean: ## Remove what make demo made.
	rm -rf $(DEMO)

# 1. A crawl: Python's own documentation server, and Reddit-style posts that link to its pages.
$(DEMO)/crawl.jsonl.zst: demo/documentation_site.py | $(STAMP)
	@mkdir -p $(DEMO)
	$(PY) demo/documentation_site.py --dump $(DEMO)/RS_2017-10.zst --port-file $(DEMO)/port -- \
	  $(GPT2) webtext-scrape $(DEMO)/RS_2017-10.zst --work $(DEMO)/webtext --allow-net 127.0.0.0/8 --host-gap 0 \
	  --rejects $(DEMO)/rejects.jsonl -f -o $@ 2> >(tee $(DEMO)/crawl.log >&2)

# 2. More prose: Shakespeare's plays.
$(DEMO)/plays.jsonl: demo/plays.py | $(STAMP)
	@mkdir -p $(DEMO)
	$(PY) demo/plays.py > $@

# 3. A vocabulary of our own, tokens, and a training set with a validation split.
$(DEMO)/vocab.tiktoken: $(DEMO)/crawl.jsonl.zst $(DEMO)/plays.jsonl
	$(GPT2) bpe-train $^ --vocab-size 1024 -f -o $@

$(DEMO)/crawl.tok.zst: $(DEMO)/crawl.jsonl.zst $(DEMO)/vocab.tiktoken
	$(GPT2) bpe-tokenize $< --vocab $(DEMO)/vocab.tiktoken --source crawl -f -o $@

$(DEMO)/plays.tok.zst: $(DEMO)/plays.jsonl $(DEMO)/vocab.tiktoken
	$(GPT2) bpe-tokenize $< --vocab $(DEMO)/vocab.tiktoken --source plays -f -o $@

$(DEMO)/shards/index.json: $(DEMO)/crawl.tok.zst $(DEMO)/plays.tok.zst
	$(GPT2) pack $^ --val-fraction 0.05 -f -o $(@D)

# 4. The model, its perplexity, and what it writes.
$(DEMO)/runs/main/manifest.json: $(DEMO)/shards/index.json
	@mkdir -p $(DEMO)/runs
	$(GPT2) train $(DEMO)/shards $(MODEL) $(MAIN_FLAGS) -o $(@D) >/dev/null
	@touch -c $@

$(DEMO)/unigram.json: $(DEMO)/shards/index.json demo/unigram.py
	$(PY) demo/unigram.py $(DEMO)/shards > $@

$(DEMO)/eval.jsonl: $(DEMO)/runs/main/manifest.json
	$(GPT2) eval-ppl $(<D) $(DEMO)/shards -f -o $@

$(DEMO)/sample.txt: $(DEMO)/runs/main/manifest.json
	echo "HAMLET" | $(GPT2) sample $(<D) --max-tokens 160 --top-p 0.9 --seed 2 -f -o $@

$(DEMO)/loss.png: $(DEMO)/runs/main/manifest.json $(DEMO)/unigram.json
	$(GPT2) plot $(<D) --reference "unigram entropy=$$($(PY) -c 'import json, sys; print(json.load(open(sys.argv[1]))["nats_per_token"])' $(DEMO)/unigram.json)" -f -o $@

# 5. A ladder of smaller models and the law they follow, two runs at a time unless make was told a number. Minutes of runs
# may not identify a law: the summary shows the fit's warnings, where a refusal would end the demo.
BUDGETS ?= 1e15 1e18
LAW ?= auto
$(DEMO)/ladder.done: $(DEMO)/shards/index.json $(DEMO)/runs/main/manifest.json demo/ladder/nine.mk demo/ladder/rungs.mk
	@mkdir -p $(DEMO)/ladder
	$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j2) -f demo/ladder/rungs.mk PLAN=demo/ladder/nine.mk \
	  LADDER='$(DEMO)/ladder' SHARDS='$(DEMO)/shards' GPT2='$(GPT2)' FIT_FLAGS='--law $(LAW) $(BUDGETS:%=--flops %) --allow-unidentified' \
	  $(DEMO)/ladder/fit.jsonl
	@touch $@

# 6. What a person wants to see of it.
$(DEMO)/summary.txt: $(DEMO)/eval.jsonl $(DEMO)/sample.txt $(DEMO)/loss.png $(DEMO)/ladder.done demo/summary.py
	@$(PY) demo/summary.py $(DEMO) $(DEMO)/ladder > $@
