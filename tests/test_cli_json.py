"""`--json`: one document on stdout that a program can use, and nothing else there."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli_cases import IMAGES, facts, file_sha256, run
from tests.kontext_tiny import drawn_image

REPO = Path(__file__).parents[1]


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code, out, _ = run(capsys, *words, "--json")
    return code, json.loads(out)


def test_apply_tells_what_it_wrote_with_all_facts(folder, model, capsys):
    code, told = asked(capsys, "apply", *IMAGES, "-o", "out.png", "--model", str(model), "--seed", "7")
    (written,) = told["written"]
    assert code == 0 and (written["source"], written["output"]) == ("b.png", "out.png") and told["left_out"] == []
    made = written["facts"]
    assert made == facts(folder / "out.png")
    assert made["seed"] == 7 and made["basis_sha256"] == file_sha256(model / "basis.safetensors")
    assert made["base_revision"] and made["encoder"].startswith("clip:") and made["model"] == str(model)
    assert (made["offload"], made["fold"], made["dtype"]) == ("none", False, "float32") or made["device"] != "cpu"
    assert (
        set(made["versions"]) == {"lorweb", "torch", "diffusers", "transformers"} and len(made["content_sha256"]) == 64
    )


def test_apply_tells_what_it_left_out_beside_the_error(folder, model, capsys):
    (folder / "many").mkdir()
    drawn_image(4, 40, 40).save(folder / "many" / "4.png")
    (folder / "many" / "5.png").write_bytes(b"broken")
    code, told = asked(capsys, "apply", "a.png", "a2.png", "many", "-o", "out", "--model", str(model))
    assert code == 1 and told["error"] == "1 of 2 images could not be read; the other 1 are in out"
    assert [row["output"] for row in told["written"]] == ["out/4.png"]
    assert told["left_out"][0]["source"] == "many/5.png" and "is not an image" in told["left_out"][0]["reason"]


def test_what_is_no_utf_8_is_refused_as_a_prompt_and_told_as_an_escape(folder, capsys):
    code, out, err = run(capsys, "apply", *IMAGES, "-o", "o.png", "--prompt", "caf\udce9", "--json")
    told = json.loads(out)["error"]
    assert code == 2 and "the prompt holds half of a surrogate pair at 3, as text has it" in told
    assert "Traceback" not in err and "--prompt" in err
    code, out, err = run(capsys, "trace", "gone\udce9.png", "--json")
    assert code == 1 and "nothing at gone\\udce9.png" in out and "nothing at gone\\udce9.png" in err
    assert json.loads(out)["error"].startswith("nothing at gone")


def test_files_of_a_folder_that_are_no_images_are_told_and_no_fault(folder, model, capsys):
    (folder / "many" / "inner").mkdir(parents=True)
    drawn_image(4, 40, 40).save(folder / "many" / "4.GIF")
    others = [f"many/{name}" for name in ("1.heic", "2.txt", "3.mov", "5", "6.md", "7.md")]
    for name in (*others, "many/.DS_Store"):
        Path(name).write_bytes(b"x")
    words = ("apply", "a.png", "a2.png", "many", "-o", "out", "--model", str(model), "--json")
    code, out, err = run(capsys, *words)
    told = json.loads(out)
    assert code == 0 and [row["output"] for row in told["written"]] == ["out/4.png"]
    assert [row["source"] for row in told["left_out"]] == others
    assert all(row["reason"].startswith("its name ends in none of .png, .jpg,") for row in told["left_out"])
    note = "6 files are no images of a kind that is read, and left out: 1.heic, 2.txt, 3.mov, 5, 6.md, ..."
    assert err == f"lorweb: note: {note}\n"


def test_mix_bake_and_convert(folder, model, capsys):
    code, told = asked(capsys, "mix", *IMAGES, "-o", "m.safetensors", "--model", str(model))
    assert code == 0 and (told["layers"], told["loras"]) == (20, 3) and told["facts"]["queries"] == ["b.png"]
    code, baked = asked(
        capsys, "bake", "--mix", "m.safetensors", "-o", "l.safetensors", "--rank", "2", "--model", str(model)
    )
    assert code == 0 and baked["mix"] == told["mix"] and baked["rank"] == 2 and len(baked["errors"]) == 20
    assert 0 < baked["total_error"] < 1
    code, told = asked(capsys, "convert", str(model), "official", "--to", "official")
    assert code == 0 and all(Path(path).is_file() for path in told["written"]) and len(told["written"]) == 2


@pytest.mark.slow
def test_health_and_plan(folder, model, capsys, monkeypatch):
    for name in ("1", "2"):
        (folder / "triples" / name).mkdir(parents=True)
        for seed, side in enumerate(("a", "a2", "b")):
            drawn_image(seed + 3 * int(name)).save(folder / "triples" / name / f"{side}.png")
    code, told = asked(capsys, "health", str(model), "--triples", "triples", "-o", "found")
    assert code == 0 and told["health"] == json.loads(Path("found/health.json").read_text(encoding="utf-8"))
    code, told = asked(capsys, "plan", "--flux", "-o", "sizes.json")
    assert code == 0 and told == json.loads(Path("sizes.json").read_text(encoding="utf-8"))
    monkeypatch.chdir(REPO)
    code, told = asked(capsys, "plan")
    assert code == 0 and told["plan"]["model"]["trained"] > 0


def test_doctor(capsys, monkeypatch):
    monkeypatch.chdir(REPO)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, told = asked(capsys, "doctor", "--profile", "smoke")
    states = {finding["name"]: finding["state"] for finding in told["findings"]}
    assert set(states.values()) <= {"ok", "note", "missing"}
    assert told["profile"] == "smoke" and told["missing"] == [name for name in states if states[name] == "missing"]
    assert code == (1 if told["missing"] else 0) and ("error" in told) == bool(told["missing"])
    for name in ("python", "torch", "disk", "mlflow registry", "ray address", "port 7860", "port 5000", "hub token"):
        assert name in states, name
    for name in ("gradio", "torchao", "bitsandbytes", "prodigyopt", "ray[default]", "browser", "base", "query encoder"):
        assert name in states, name


def test_an_alias_alone_is_that_alias_of_the_registry(folder, model, capsys):
    code, told = asked(capsys, "apply", *IMAGES, "-o", "o.png", "--model", "candidate")
    assert code == 1 and told["error"].startswith("there is no model registry at")
    (folder / "candidate").symlink_to(model)
    assert asked(capsys, "apply", *IMAGES, "-o", "o.png", "--model", "candidate")[0] == 0, "a folder of that name wins"
