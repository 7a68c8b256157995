"""eval-tasks --exclude-overlap, and what gpt2 overlap writes read by both evaluations."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from overlap_files import of, overlap_records, save, write


@pytest.fixture
def choices(tmp_path: Path) -> tuple[Path, str]:
    """Twenty items, every third of which was met, and what gpt2 overlap would say of them."""
    items = [{"context": f"Word {number} of", "choices": ["one", "two", "\u00e9"], "label": number % 3}
             for number in range(20)]
    path = tmp_path / "choices.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    texts = [f"{item['context']} {item['choices'][item['label']]}" for item in items]
    records = overlap_records(texts, {n: int(n % 3 == 1) for n in range(20)},
                              [{"task": "choices", "item": n} for n in range(20)])
    return path, save(tmp_path / "overlap.jsonl", records)


@pytest.mark.parametrize("way", ["items", "documents"])
def test_clean_items_score_as_a_file_of_them(gpt2_here: Callable, model_directory: Path, tmp_path: Path, way: str,
                                             choices: tuple[Path, str]) -> None:
    path, overlap = choices
    if way == "documents":
        lines = [{name: value for name, value in json.loads(line).items() if name not in ("task", "item")}
                 for line in Path(overlap).read_text().splitlines()]
        Path(overlap).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = gpt2_here("eval-tasks", model_directory, path, "--exclude-overlap", overlap, check=True)
    items = of(found.stdout, "gpt2.item")
    whole, clean = of(found.stdout, "gpt2.task")
    kept = tmp_path / "kept" / "choices.jsonl"
    kept.parent.mkdir()
    kept.write_text("".join(line for number, line in enumerate(path.open()) if number % 3 != 1))
    (by_hand,) = of(gpt2_here("eval-tasks", model_directory, kept, check=True).stdout, "gpt2.task")
    assert [item["excluded"] for item in items] == [number % 3 == 1 for number in range(20)]
    assert {item["overlap"] for item in items} == {0.0, 0.1}
    same = ("metrics", "n_items", "data_sha256", "requests_sha256", "n_dropped_tokens")
    assert [clean[name] for name in same] == [by_hand[name] for name in same]
    (plain,) = of(gpt2_here("eval-tasks", model_directory, path, "--summary", check=True).stdout, "gpt2.task")
    assert plain == whole
    assert (clean["exclusion"]["n_items"], clean["exclusion"]["n_items_excluded"]) == (20, 7)
    assert clean["exclusion"]["difference"]["acc"]["value"] == (
        clean["metrics"]["acc"]["value"] - whole["metrics"]["acc"]["value"])
    assert clean["exclusion"]["difference"]["acc"]["stderr"] > 0
    said = found.stderr.decode()
    assert "without 7 of 20 items, those that have any of their 8-grams in the training text" in said
    assert "against all" in said


def test_examples_and_limits_leave_the_items_texts_alone(gpt2_here: Callable, model_directory: Path,
                                                         choices: tuple[Path, str]) -> None:
    path, overlap = choices
    found = gpt2_here("eval-tasks", model_directory, path, "--exclude-overlap", overlap, "--num-fewshot", 2, "--limit",
                      5, "--max-overlap", "0.05", "--summary", check=True)
    whole, clean = of(found.stdout, "gpt2.task")
    assert (whole["n_items"], clean["n_items"], clean["num_fewshot"]) == (5, 3, 2)
    (_, all_of_them) = of(gpt2_here("eval-tasks", model_directory, path, "--exclude-overlap", overlap, "--max-overlap",
                                    0.1, "--summary", check=True).stdout, "gpt2.task")
    assert (all_of_them["n_items"], all_of_them["exclusion"]["n_items_excluded"]) == (20, 0)


def test_items_that_changed_are_refused_before_the_model_is_asked(gpt2_here: Callable, model_directory: Path,
                                                                  tmp_path: Path, choices: tuple[Path, str]) -> None:
    path, overlap = choices
    lines = path.read_text().splitlines(keepends=True)

    def refused(data: str, status: int, *options: Any, name: str = "choices") -> bytes:
        changed = tmp_path / f"{name}.jsonl"
        changed.write_text(data)
        result = gpt2_here("eval-tasks", model_directory, changed, *(options or ("--exclude-overlap", overlap)))
        assert (result.returncode, result.stdout) == (status, b"") and b"Traceback" not in result.stderr
        assert b"parameters" not in result.stderr, "it was not loaded"
        return bytes(result.stderr)

    assert b"item 4 of task choices was another text" in refused("".join(lines).replace("Word 4", "Wort 4"), 65)
    assert b"knows no item 20 of task choices" in refused("".join([*lines, lines[0]]), 65)
    assert b"knows no task 'other', only choices" in refused("".join(lines), 65, name="other")
    assert b"task choices: the one item has some of its 8-grams" in refused(
        "".join(lines), 65, "--exclude-overlap", save(tmp_path / "one.jsonl", [
            {**overlap_records(["Word 0 of one"], {0: 1})[0], "task": "choices", "item": 0},
            overlap_records(["x"], {0: 1})[1]]), "--limit", 1)
    assert b"--max-overlap says nothing without --exclude-overlap" in refused("".join(lines), 2, "--max-overlap", 0.1)
    assert b"--max-overlap" in refused("".join(lines), 2, "--exclude-overlap", overlap, "--max-overlap", 1.5)
    both = gpt2_here("eval-tasks", model_directory, "--exclude-overlap", "-", input=b"")
    assert both.returncode == 2 and b"cannot both come from standard input" in both.stderr
    missing = gpt2_here("eval-tasks", model_directory, path, "--exclude-overlap", "missing.jsonl")
    assert missing.returncode == 2 and b"there is no missing.jsonl" in missing.stderr


def test_a_preset_is_rescored_as_the_paper_did(gpt2_here: Callable, model_directory: Path, tmp_path: Path) -> None:
    """LAMBADA's JSONL is documents: their overlap serves, and so does that of a preset's items, by name."""
    passages = [f"She looked for the key number {number} and then opened the door" for number in range(6)]
    data = Path(write(tmp_path / "lambada.jsonl", passages))
    met = {number: int(number in (1, 4)) for number in range(6)}
    for items in (None, [{"task": "lambada", "item": number} for number in range(6)]):
        overlap = save(tmp_path / "o.jsonl", overlap_records(passages, met, items))
        found = gpt2_here("eval-tasks", "--preset", "lambada", model_directory, data, "--exclude-overlap", overlap,
                          "--summary", check=True)
        whole, clean = of(found.stdout, "gpt2.task")
        assert (whole["n_items"], clean["n_items"]) == (6, 4) and clean["published"]
        assert clean["exclusion"]["difference"]["perplexity"]["stderr"] > 0
    ppl = gpt2_here("eval-ppl", model_directory, data, "--protocol", "paper-lambada", "--exclude-overlap", overlap)
    assert ppl.returncode == 65 and b"no document that is no item of a task" in ppl.stderr
    made = gpt2_here("eval-tasks", "--preset", "arithmetic-1", model_directory, "--limit", 3, "--exclude-overlap", "-",
                     input=Path(overlap).read_bytes())
    assert made.returncode == 65 and b"knows no task 'arithmetic-1'" in made.stderr


def test_eval_diff_takes_a_clean_summary_for_no_other(gpt2_here: Callable, model_directory: Path, tmp_path: Path,
                                                      choices: tuple[Path, str]) -> None:
    path, overlap = choices
    found = gpt2_here("eval-tasks", model_directory, path, "--exclude-overlap", overlap, check=True).stdout
    plain = gpt2_here("eval-tasks", model_directory, path, check=True).stdout
    (tmp_path / "a.jsonl").write_bytes(found)
    (tmp_path / "b.jsonl").write_bytes(plain)
    result = gpt2_here("eval-diff", tmp_path / "a.jsonl", tmp_path / "b.jsonl", check=True)
    for record in of(result.stdout, "gpt2.eval-diff"):
        assert (record["n_pairs"], record["difference"], record["differing"]) == (20, 0.0, [])


def test_what_gpt2_overlap_writes_is_what_is_read(gpt2_here: Callable, model_directory: Path, tmp_path: Path,
                                                  choices: tuple[Path, str]) -> None:
    drawn = random.Random(3)
    texts = [" ".join(drawn.choice("abcdefghijklmnop") * 3 for _ in range(30)) for _ in range(12)]
    train = tmp_path / "train.txt"
    train.write_text("\n".join([texts[2], "nothing else", texts[7][20:60]]) + "\n")
    text = write(tmp_path / "t.jsonl", texts)
    by_line = tmp_path / "lines.txt"
    by_line.write_text("".join(f"{text}\n" for text in texts))
    for test, options, protocol in ((text, (), "sliding"), (by_line, ("--by-line",), "paper-1bw")):
        found = gpt2_here("overlap", train, "--test", test, *options, check=True)
        result = gpt2_here("eval-ppl", model_directory, test, "--protocol", protocol, "--exclude-overlap", "-",
                           input=found.stdout, check=True)
        _, clean = of(result.stdout, "gpt2.eval")
        assert (clean["exclusion"]["n_documents"], clean["n_documents"]) == (12, 10)
    path, _ = choices
    train.write_text("we saw that word 4 of two is here")
    found = gpt2_here("overlap", train, "--ngram", 4, "--test", path, check=True)
    result = gpt2_here("eval-tasks", model_directory, path, "--exclude-overlap", "-", input=found.stdout, check=True)
    excluded = [item["item"] for item in of(result.stdout, "gpt2.item") if item["excluded"]]
    assert excluded == [4]


def test_overlap_looks_for_a_presets_items(gpt2_here: Callable, model_directory: Path, tmp_path: Path) -> None:
    """One passage a line is de-tokenised by the preset, so its items are other texts than the file's lines."""
    data, train = tmp_path / "lambada.txt", tmp_path / "train.txt"
    data.write_text("she did n't see the old red door\nthey went by the long way home\n")
    train.write_text("And they went by the long way home, he said.")
    arguments = ("overlap", train, "--preset", "lambada", "--ngram", 5)
    found = gpt2_here(*arguments, "--test", data, check=True)
    assert [(each["task"], each["item"], each["n_overlap"]) for each in of(found.stdout, "gpt2.overlap")] == [
        ("lambada", 0, 0), ("lambada", 1, 3)]
    result = gpt2_here("eval-tasks", "--preset", "lambada", model_directory, data, "--exclude-overlap", "-",
                       input=found.stdout, check=True)
    assert [item["excluded"] for item in of(result.stdout, "gpt2.item")] == [False, True]
    without = gpt2_here(*arguments)
    assert without.returncode == 2 and b"--preset lambada: name its data with --test FILE" in without.stderr
    made = gpt2_here("overlap", train, "--preset", "analogies", "--summary", check=True)
    assert of(made.stdout, "gpt2.overlap-set")[0]["n_documents"] == 1000
