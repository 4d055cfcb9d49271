"""Invented tasks: replies are read strictly, every fault has its name, and a real (tiny) model runs through."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorweb.data.catalogue import load_catalogue
from lorweb.data.editors.base import FAMILIES
from lorweb.data.instructions import ReplyReader, prompt_for
from lorweb.data.llm import LanguageModel, Sampled, check_model_folder
from tests.model_folders import save_tiny_llm

REPLIES = Path(__file__).with_name("replies")
TASKS = load_catalogue().tasks


def read(*names: str):
    reader = ReplyReader(TASKS, max_words=12)
    for name in names:
        reader.read(name, (REPLIES / f"{name}.txt").read_text(encoding="utf-8"))
    return reader.parsed


def test_valid_replies_become_tasks_without_steps_or_holdout():
    parsed = read("llm_valid", "llm_fenced")
    assert not parsed.rejected and list(parsed.tasks) == [
        "style/chalk-board",
        "style/knitted-wool",
        "weather/sand-storm",
    ]
    task = parsed.tasks["style/knitted-wool"]
    assert (task.edit_type, task.steps, task.fits, task.holdout) == ("style", (), ("*",), None)
    assert len(task.instructions) == 3


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("llm_talkative", "not_json"),
        ("llm_trailing_comma", "not_json"),
        ("llm_cut_off", "not_json"),
        ("llm_single_quotes", "not_json"),
        ("llm_key_twice", "not_json"),
        ("llm_object", "not_a_list"),
    ],
)
def test_a_reply_that_is_not_as_asked_is_refused_whole(name, check):
    parsed = read(name)
    assert not parsed.tasks and [(where, why.check) for where, why in parsed.rejected] == [(name, check)]


def test_every_fault_of_an_entry_has_its_name_and_costs_it_alone():
    parsed = read("llm_entries")
    assert list(parsed.tasks) == ["style/good"]
    assert [why.check for _, why in parsed.rejected] == [
        "not_an_object", "unknown_key", "missing_key", "unknown_family", "bad_id", "bad_id", "instruction_count",
        "instruction_count", "not_text", "not_text", "too_long", "duplicate", "duplicate", "duplicate", "duplicate",
    ]  # fmt: skip
    assert parsed.rejected[0][0] == "llm_entries#0" and parsed.rejected[-1][0] == "llm_entries#15"
    long = parsed.rejected[10][1]
    assert (long.value, long.threshold) == (18, 12)
    assert all(why.reason.isascii() and len(why.reason) < 300 for _, why in parsed.rejected)


def test_what_an_earlier_reply_gave_a_later_one_cannot_give_again():
    parsed = read("llm_valid", "llm_valid")
    assert len(parsed.tasks) == 2 and [why.check for _, why in parsed.rejected] == ["duplicate"] * 2


KEYS = st.sampled_from(["id", "edit_type", "instructions"])
LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=9)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner), max_leaves=12)


@given(st.text(max_size=200) | TREES.map(json.dumps))
def test_no_reply_stops_the_reading(reply):
    reader = ReplyReader(TASKS, max_words=5)
    reader.read("r", reply)
    assert reader.parsed.tasks or reader.parsed.rejected


def test_calls_ask_for_all_families_in_turns_with_drawn_examples():
    prompts = [prompt_for(number, 4, TASKS, seed=0) for number in range(6)]
    assert [next(f for f in FAMILIES if f"family '{f}'" in p) for p in prompts] == list(FAMILIES)
    assert all("Invent 4 " in p for p in prompts) and len(set(prompts)) == 6
    assert prompt_for(0, 4, TASKS, 0) == prompts[0] != prompt_for(0, 4, TASKS, 1)
    examples = json.loads(prompts[0].split("Examples:\n")[1])
    assert len(examples) == 4 and not {e["id"] for e in examples} - {t.id for t in TASKS}


def test_a_real_model_replies_the_same_to_the_same_seed(tmp_path):
    folder = save_tiny_llm(tmp_path / "llm")
    model, how = LanguageModel(folder, "float32", "cpu"), Sampled(12, 1.0)
    replies = [model("Invent a task", seed, how) for seed in (1, 1, 2)]
    assert replies[0] == replies[1] != replies[2]
    chatty = LanguageModel(
        save_tiny_llm(tmp_path / "chat", template="<u>{{ messages[0].content }}<a>"), "float32", "cpu"
    )
    ids = chatty._encode("Hi")["input_ids"][0].tolist()
    assert chatty.tokenizer.decode(ids) == "<u>Hi<a>"
    with pytest.raises(ValueError, match="lower max_new_tokens"):
        model("x" * 5000, 0, how)


def test_a_model_folder_is_looked_at_before_it_is_loaded(tmp_path):
    folder = save_tiny_llm(tmp_path / "llm")
    assert check_model_folder(folder) == check_model_folder(save_tiny_llm(tmp_path / "same"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged or truncated"):
        LanguageModel(folder, "float32", "cpu")
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no [.]safetensors"):
        LanguageModel(folder, "float32", "cpu")
    with pytest.raises(FileNotFoundError, match="give the folder of a transformers language model"):
        LanguageModel(tmp_path / "nothing", "float32", "cpu")
