"""The command of a study in a running ComfyUI: the demo from end to end, SDXL-Turbo and FLUX.1 schnell in small."""

import json

import pytest
from comfyui import COMFYUI, link
from graph import WIRES, node
from pack import ROOT
from PIL import Image
from study import command, demo, table
from study.experiments import COSTS
from study.plan import Results
from study.scores import FEATURES, LPIPS, QUALITIES
from study.ways import PINK, WHITE

DEMO = ("demo", "--most", "1")


def layout(architecture, channels, latent, sampled):
    """A graph of these nodes with a tiny model of random weights."""
    return sampled | {
        "model": node("TinyModel", architecture=architecture),
        "text": node("TinyConditioning", architecture=architecture, seed=0, batch=1, text="a cat"),
        "empty": node("TinyConditioning", architecture=architecture, seed=0, batch=1, text=""),
        "vae": node("TinyVAE", channels=channels),
        "latent_image": node(latent, width=64, height=64, batch_size=1),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["vae", 0]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="plain"),
    }


# As ComfyUI's own templates have them.
SDXL_TURBO = layout("sdxl", 4, "EmptyLatentImage", {
    "sampler": node("KSamplerSelect", sampler_name="euler_ancestral"),
    "sigmas": node("SDTurboScheduler", model=["model", 0], steps=1, denoise=1.0),
    "sample": node(
        "SamplerCustom", model=["model", 0], add_noise=True, noise_seed=0, cfg=1.0, positive=["text", 0],
        negative=["empty", 0], sampler=["sampler", 0], sigmas=["sigmas", 0], latent_image=["latent_image", 0],
    ),
})  # fmt: skip
FLUX_SCHNELL = layout("flux_schnell", 16, "EmptySD3LatentImage", {
    "noise": node("RandomNoise", noise_seed=0),
    "guider": node("BasicGuider", model=["model", 0], conditioning=["text", 0]),
    "sampler": node("KSamplerSelect", sampler_name="euler"),
    "sigmas": node("BasicScheduler", model=["model", 0], scheduler="simple", steps=4, denoise=1.0),
    "sample": node("SamplerCustomAdvanced", **{name: [name, 0] for name in WIRES}),
})  # fmt: skip


def study(folder, *given):
    """Run the command; what it ends with, and what is in its folder."""
    code = command.main(["run", *given[:1], "--out", str(folder), *given[1:]])
    return code, Results(folder)


def test_the_demo_from_end_to_end_by_a_judge_that_nothing_was_optimised_by(server, tmp_path):
    options = [*DEMO, "--server", server.url, "--noise-set", "demo model"]
    code, results = study(tmp_path, *options)
    assert code == 0
    rows = results.experiments["ways"]
    assert all(len(lines) == 1 for lines in rows.values())
    assert all(
        set(line["scores"]) == {"color", "judge Vendi", "judge adherence"} for row in rows.values() for line in row
    )
    price = {way: lines[0]["passes"] for way, lines in rows.items()}
    assert price[WHITE] == price[PINK] == price["noise set, strength 0.5"] == 1
    for n in (16, 64):
        assert 1 < price[f"optimized at the price of {n}, white"] <= price[f"group selection of {n}, white"]
    varied = {way: sum(line["scores"]["judge Vendi"] for line in lines) for way, lines in rows.items()}
    assert varied["optimized at the price of 64, white"] > varied[WHITE]
    said = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| white, source: SDXL-Turbo, GenEval | 0.588 | 0.705 | 0.784 |" in said and "not measured yet" in said
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 4 * len(rows)

    before = (tmp_path / "results.jsonl").read_bytes()
    ran = len(server.get("history"))
    assert study(tmp_path, *options)[0] == 0
    assert len(server.get("history")) == ran  # a rerun has nothing left to do
    assert (tmp_path / "results.jsonl").read_bytes() == before


def test_white_is_what_the_graph_makes_of_the_seed(server, tmp_path):
    _, results = study(tmp_path, *DEMO, "--server", server.url, "--metrics", "", "--experiments", "gradient")
    (line,) = results.experiments["gradient"][WHITE]
    graph = demo.graph()
    graph["sample"]["inputs"]["seed"], graph["latent"]["inputs"]["batch_size"] = line["seed"], 4
    usual = [image.tobytes() for image in server.run(graph).images("save")]
    written = [tmp_path / name for name in line["pictures"]]
    assert [Image.open(file).convert("RGB").tobytes() for file in written] == usual
    for way in ("one large step, white", "one published step, white"):
        (moved,) = results.experiments["gradient"][way]
        assert sum(moved["history"][0][1]["change"]) > 0
        assert results.store.read(moved["key"]) != results.store.read(line["key"])


@pytest.mark.parametrize(
    "graph, experiments",
    [(SDXL_TURBO, "gradient,published,cost"), (FLUX_SCHNELL, "gradient,published")],
    ids=["SDXL-Turbo", "FLUX.1 schnell"],
)
def test_the_layouts_of_the_source_run_with_random_weights(server, tmp_path, monkeypatch, graph, experiments):
    server.run({"networks": node("TinyNetworks")})
    monkeypatch.setitem(COSTS, "steps", (1, 2))
    monkeypatch.setitem(COSTS, "batch", (2,))
    options = ["--server", server.url, "--look", "latent", "--experiments", experiments, "--metrics", "color,HPSv2.1"]
    (tmp_path / "graph.json").write_text(json.dumps(graph), encoding="utf-8")
    (tmp_path / "prompts.txt").write_text("a photo of a cat", encoding="utf-8")
    given = [f"{tmp_path}/graph.json", "--prompts", f"{tmp_path}/prompts.txt"]
    code, results = study(tmp_path / "out", *given, *options)
    assert code == 1
    for name, rows in results.experiments.items():
        for way, (line,) in rows.items():
            if name == "published" and way not in (WHITE, PINK):  # the host took its graph, and then found no weights
                assert "weights of" in line["failed"]
            else:
                assert set(line["scores"]) == (set() if name == "cost" else {"color", "HPSv2.1"})
    if "cost" in results.experiments:
        for steps, row in zip((1, 2), table.cost(results).splitlines()[2:4]):
            assert row.startswith(f"| {steps} steps | ") and float(row.split("|")[2]) > 0


def test_two_workers_share_the_jobs_each_with_a_comfyui_of_its_own(tmp_path):
    packs = tmp_path / "base" / "custom_nodes"
    packs.mkdir(parents=True)
    link(ROOT, packs / "noise_optimize")
    options = ["--comfyui", str(COMFYUI), "--ray", "--workers", "2", "--share", "1", "--experiments", "gradient"]
    given = ["demo", "--most", "2", *options, "--", "--cpu", "--base-directory", f"{tmp_path}/base"]
    code, results = study(tmp_path / "out", *given)
    assert code == 0
    lines = (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(results.store.lines) == 2 * 3
    assert all({"color", "judge Vendi"} <= line["scores"].keys() for line in results.store.lines.values())


def test_every_row_of_the_tables_is_what_the_host_takes(server):
    """Each widget that a node must have is stated, with a value that it may have; inputs that are wires are wired."""
    wired = {"features", "prompt", "weight", "target"}
    rows = [*FEATURES.values(), *LPIPS.values(), *QUALITIES.values()]
    for row in rows:
        described = server.get(f"object_info/{row['class_type']}")[row["class_type"]]["input"]
        assert set(described["required"]) - wired <= set(row["inputs"]), row
        for name, value in row["inputs"].items():
            kind, *options = {**described["required"], **described.get("optional", {})}[name]
            choices = kind if isinstance(kind, list) else (options or [{}])[0].get("options")
            assert choices is None or value in choices, (row, name)
