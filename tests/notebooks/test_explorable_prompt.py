"""The prompt: what is written is what `refimpl.sampling.sample` writes, read again or from a state that was saved."""

import json
import subprocess

import numpy as np
import pytest
from explorables import Prompt
from explorables.explorable import HERE
from explorables.node import ask, compute, node
from explorables.prompt import BACK, LENGTH, LONGEST, SEED, TEMPERATURE, load, loaded, saved, write_on

from refimpl import State, forward, retention_chunkwise
from refimpl.sampling import sample

SETTINGS = [
    {},
    *({"prompt": which, "back": back} for which in ("0", "1", "2") for back in BACK),
    *({"step": step} for step in (0, 1, 64, 80, 81, LONGEST + LENGTH)),
    {"prompt": "2", "back": "nothing", "step": LONGEST + LENGTH},
    {"prompt": "0", "back": "unplaced", "step": 30},
    {"prompt": "own"},
]


def written(prompt, state=None):
    """The bytes that the package's own sampler draws after a prompt."""
    params, config = load()
    drawn = sample(params, prompt[None], config, LENGTH, temperature=TEMPERATURE, seed=SEED, state=state)
    return [int(token) for (token,), _ in drawn]


def test_what_is_written_is_what_the_package_writes():
    """All but the last byte are the saved past, so that `sample` has a byte to begin with."""
    params, config = load()
    for record in Prompt.course_data()["recorded"]:
        prompt = np.array(record["prompt"])
        logits, state = forward(params, prompt[None, :-1], config, retention=retention_chunkwise)
        file = saved(logits, state)
        assert len(file) == record["size"]
        last, kept = loaded(file)
        np.testing.assert_array_equal(last, logits[:, -1])
        assert kept.position == len(prompt) - 1
        assert all(np.array_equal(a, b) for a, b in zip(kept.layers, state.layers, strict=True))
        assert record["again"] == written(prompt)
        assert record["all"] == written(prompt[-1:], kept) == record["again"]
        # Without its position, or without a state, the first byte is drawn from the logits of the file, the others are not.
        _, state = forward(params, prompt[None], config, retention=retention_chunkwise)
        first = np.array(record["again"][:1])
        for back, start in (("unplaced", State(0, state.layers)), ("nothing", None)):
            assert record[back][0] == first[0]
            rng = np.random.default_rng(SEED)
            rng.random()
            whole, _ = forward(params, np.array(record[back])[None], config, state=start)
            for logits, token in zip(whole[0].astype(np.float64), record[back][1:], strict=False):
                chances = np.exp(logits / TEMPERATURE - (logits / TEMPERATURE).max())
                reached = np.sort(chances)[::-1].cumsum() / chances.sum()
                rank = int((reached <= rng.random()).sum())
                assert np.argsort(-chances, kind="stable")[rank] == token


def test_numbers_are_counts_of_the_record():
    data = Prompt.course_data()
    start = {"prompt": "1", "back": "all", "step": 112}
    for values, got in zip(SETTINGS, compute(Prompt, *SETTINGS), strict=True):
        now = start | values
        record = data["recorded"][1 if now["prompt"] == "own" else int(now["prompt"])]
        time, step = len(record["prompt"]), now["step"]
        kept, again = record[now["back"]][:step], record["again"][: max(step - time, 0)]  # what stands there by then
        agree = (np.array(record[now["back"]]) == record["again"]).tolist()
        want = {
            "prompt": record["prompt"],
            "size": record["size"],
            "agree": agree,
            "both": min(len(kept), len(again)),
            "same": sum(a == b for a, b in zip(kept, again, strict=False)),
            "first": agree.index(False) if False in agree else -1,
            "kept": {"read": 0, "written": len(kept), "text": record[now["back"]]},
            "again": {"read": min(step, time), "written": len(again), "text": record["again"]},
            "steps": {"kept": LENGTH, "again": time + LENGTH},
        }
        assert got == want, values
    assert [len(record["prompt"]) for record in data["recorded"]] == [22, 80, 189], "as the choice says"
    assert len({record["size"] for record in data["recorded"]}) == 1


def test_a_kernel_answers_a_prompt_and_says_what_is_wrong():
    widget = Prompt()
    widget.request = {"id": "hello"}
    assert widget.reply == {"id": "hello", "error": ""}
    widget.request = {"id": "a", "prompt": "Über allen"}
    assert widget.reply == {"id": "a", "error": ""}
    own = widget.data["own"]
    assert bytes(own["prompt"]).decode() == "Über allen"
    assert own["again"] == own["all"]
    (got,) = compute(Prompt, {"prompt": "own", "step": 100}, data=widget.data)
    assert got["prompt"] == own["prompt"]
    assert got["again"]["text"] == own["again"]
    for prompt, wrong in (
        ("", "The prompt must have 1 to 200 bytes, got 0."),
        ("x" * 201, "The prompt must have 1 to 200 bytes, got 201."),
        (7, "The prompt must be a text, got int."),
    ):
        widget.request = {"id": wrong, "prompt": prompt}
        assert widget.reply == {"id": wrong, "error": wrong}
        assert widget.data["own"] == own


ASKED = """
import { asked, standalone } from "SHARED";
const listeners = new Set(), state = { reply: {} };
const answering = {
  get: (name) => state[name], set: (name, value) => (state[name] = value),
  on: (_, told) => listeners.add(told), off: (_, told) => listeners.delete(told),
  save_changes: () => setTimeout(() => {
    for (const id of ["another", state.request.id]) {
      state.reply = { id, error: state.request.prompt };
      for (const told of [...listeners]) told();
    }
  }),
};
const silent = { ...answering, save_changes: () => {} };
const { error } = await asked(answering, { prompt: "In the" }, 5);
const none = [await asked(silent, {}, 0.01), await asked(standalone({}, {}), {}, 5)];
console.log(JSON.stringify([error, ...none, listeners.size]));
"""


def test_a_request_gets_its_own_reply_or_none_in_time():
    program = ASKED.replace("SHARED", (HERE / "shared.js").as_uri())
    command = [node(), "--input-type=module", "--eval", program]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(answer.stdout) == ["In the", None, None, 0]


def test_words_say_whether_it_is_recorded():
    data = Prompt.course_data()
    values = [{}, {"kernel": "here"}, {"prompt": "own"}, {"prompt": "own", "problem": "The prompt is wrong."}]
    said = ask("prompt", [{"what": "describe", "values": each, "data": data} for each in values])
    assert said[0].startswith("Recorded, as no Python runs here.")
    assert "a prompt of your own" in said[1]
    assert "You have no prompt yet" in said[2]
    assert said[3].startswith("The prompt is wrong.")
    own = data | {"own": write_on("In the beginning")}
    assert ask("prompt", [{"what": "describe", "values": {"prompt": "own"}, "data": own}])[0].startswith("Your prompt.")


def test_odd_bytes_are_drawn():
    record = Prompt.course_data()["recorded"][0]
    odd = record | {
        "prompt": [*"é€😀\n".encode(), 0xFF, 0xC3, 0x28, 0x00],
        "again": [0xE2, 0x82, *record["again"][2:]],
    }
    question = {"what": "picture", "values": {"prompt": "own", "step": 264}, "data": {"recorded": [], "own": odd}}
    svg = ask("prompt", [question])[0]["svg"]
    assert all(glyph in svg for glyph in "é€😀↵□")
    assert "\ufffd" not in svg


@pytest.mark.parametrize("back", BACK)
def test_only_all_of_the_file_goes_on_as_if_the_prompt_had_been_read(back):
    for record in Prompt.course_data()["recorded"]:
        assert (record[back] == record["again"]) == (back == "all")
