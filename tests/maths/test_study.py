"""A study without ComfyUI: what there is to do, that only what is missing is done, by one or many, and what is told."""

import json
import multiprocessing
import os
import subprocess
import sys
from functools import partial
from itertools import accumulate
from types import SimpleNamespace

import fake_comfy
import pytest
from fake_comfy import fake, picture
from graph import node
from pack import ROOT
from study import cluster, page, plan, prompts, table, votes
from study.experiments import EXPERIMENTS, TERMS, Study, affordable, search_passes
from study.graphs import GraphError, Layout, read
from study.jobs import distinct, jobs_of, key_of
from study.source import PUBLISHED
from study.store import Store
from study.ways import PINK, WHITE
from study.work import COST, work

from noise_optimize.noise.bill import in_words
from noise_optimize.noise.recipes import RECIPES

GRAPH = {
    "model": node("UNETLoader", unet_name="a"),
    "clip": node("CLIPLoader", clip_name="b"),
    "text": node("CLIPTextEncode", clip=["clip", 0], text="a cat"),
    "empty": node("CLIPTextEncode", clip=["clip", 0], text=""),
    "latent": node("EmptyLatentImage", width=512, height=512, batch_size=1),
    "sample": node(
        "KSampler", model=["model", 0], positive=["text", 0], negative=["empty", 0], latent_image=["latent", 0],
        seed=0, steps=4, cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
    ),
    "vae": node("VAELoader", vae_name="c"),
    "decode": node("VAEDecode", samples=["sample", 0], vae=["vae", 0]),
    "save": node("SaveImage", images=["decode", 0], filename_prefix="x"),
}  # fmt: skip
LAYOUT = Layout.of(GRAPH)
SCORES = {here: score for score, here in TERMS.items()}
STUDY = Study.of(LAYOUT, "", "SDXL-Turbo")
SPECTRA = EXPERIMENTS["spectra"](STUDY)[:3]


def jobs(prompts=("a house", "a fish"), ways=SPECTRA, metrics=("color",), sets=(0,)):
    return jobs_of(LAYOUT, ways, prompts, sets, metrics)


def ran(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def kinds(log):
    return [kind for _, kind, *_ in ran(log)]


def most_at_once(log):
    """Graphs that ran at the same time."""
    moments = sorted((when, step) for *_, began, ended in ran(log) for when, step in ((began, 1), (ended, -1)))
    return max(accumulate(step for _, step in moments))


def test_prompts_are_read_one_a_line_or_as_geneval_has_them(tmp_path):
    (tmp_path / "a.txt").write_text("a cat\n\n a dog \na cat\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"tag": "x", "prompt": "a bench"}\n{"prompt": "a cow"}\n', encoding="utf-8")
    assert prompts.read(tmp_path / "a.txt") == ["a cat", "a dog"]
    assert prompts.read(tmp_path / "b.jsonl") == ["a bench", "a cow"]
    (tmp_path / "b.jsonl").write_text('{"tag": "x"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match='line 1 is no JSON with a "prompt"'):
        prompts.read(tmp_path / "b.jsonl")


def test_the_prompt_is_written_where_the_graph_has_it_and_nothing_else_changes():
    graph, wires = LAYOUT.variant("a tree", batch=4)
    assert graph["text"]["inputs"]["text"] == "a tree" and graph["empty"]["inputs"]["text"] == ""
    assert graph["latent"]["inputs"] == {"width": 512, "height": 512, "batch_size": 4}
    assert graph[wires["sigmas"][0]]["inputs"]["steps"] == 4
    assert GRAPH["text"]["inputs"]["text"] == "a cat"
    assert Layout.of(GRAPH, size=256).variant("", 1)[0]["latent"]["inputs"]["height"] == 256


@pytest.mark.parametrize(
    "without, sentence", [("sample", "has none of Sampler"), ("decode", "no VAE Decode"), ("text", "has its prompt")]
)
def test_a_graph_that_lacks_something_is_told_what(without, sentence):
    with pytest.raises(GraphError, match=sentence):
        Layout.of({name: part for name, part in GRAPH.items() if name != without})


@pytest.mark.parametrize("saved", ['{"nodes": [], "links": [], "version": 0.4}', "[]"])
def test_a_workflow_that_was_saved_and_not_exported_is_told_so(tmp_path, saved):
    (tmp_path / "graph.json").write_text(saved, encoding="utf-8")
    with pytest.raises(GraphError, match="no graph in API format"):
        read(tmp_path / "graph.json")


def test_a_guider_of_several_prompts_is_told_what_to_use():
    guided = {"guider": node("DualCFGGuider", model=["model", 0], cond1=["text", 0], cond2=["text", 0])}
    sample = {"sample": node("SamplerCustomAdvanced", guider=["guider", 0], latent_image=["latent", 0])}
    with pytest.raises(GraphError, match="use BasicGuider or CFGGuider"):
        Layout.of(GRAPH | guided | sample)


def test_a_key_is_of_way_prompt_seed_and_what_the_graph_has_however_it_is_ordered():
    other = Layout.of(GRAPH | {"model": node("UNETLoader", unet_name="z")})
    keys = [
        job.key
        for layout in (LAYOUT, other)
        for job in jobs_of(layout, SPECTRA, ("a house", "a fish"), (0, 1), ("color",))
    ]
    assert len(set(keys)) == len(keys) == 2 * 2 * 2 * len(SPECTRA)
    assert key_of(dict(reversed(GRAPH.items()))) == key_of(GRAPH)


def test_ways_of_a_prompt_share_their_seed_and_prompts_do_not():
    seeds = {}
    for job in jobs(sets=(0, 1)):
        seeds.setdefault(job.prompt, set()).add(job.seed)
    first, second = seeds.values()
    assert len(first) == len(second) == 2 and not first & second


def test_what_two_experiments_share_is_done_once():
    ways, spectra = (jobs(ways=EXPERIMENTS[name](STUDY)) for name in ("ways", "spectra"))
    both = [*ways, *spectra]
    assert len(distinct(both)) == len(both) - 2 * 2  # of both prompts: white, and pink, which is alpha 0.20


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 20])
@pytest.mark.parametrize("candidates", [16, 64])
def test_optimisation_gets_the_passes_of_the_search_and_not_one_iteration_more(steps, candidates):
    passes = search_passes(candidates, steps)
    k = affordable(passes, steps)
    # the last look with the rendering, another rendering, and of a plain run's calls 3 for each iteration
    assert 2 + 3 * k / steps <= passes < 2 + 3 * (k + 1) / steps


@pytest.mark.parametrize("runs", ["1", "2.5", "11"])
def test_the_price_of_a_set_is_read_from_what_the_node_says_it_cost(runs):
    assert COST.search(f"It cost as much as {in_words(runs, 4)}, in 2.0 s.")[1] == runs


def test_the_weights_of_a_published_recipe_are_those_that_its_report_calls_as_published():
    for name, recipe in RECIPES.items():
        ways = [way for way in EXPERIMENTS["published"](Study.of(LAYOUT, "", name)) if way.terms]
        assert len(ways) == 2 * len(recipe.lead)
        for way in ways:
            leaves = [
                SimpleNamespace(name=SCORES[term.name], weight=term.weight, target=term.target) for term in way.terms
            ]
            said = recipe.differences(SimpleNamespace(leaves=lambda leaves=leaves: leaves), recipe.total, {})
            assert said == list(recipe.differs)


def test_a_rerun_does_only_what_is_missing(tmp_path):
    todo, log = jobs(), tmp_path / "log"
    work(todo[:2], partial(fake, log), Store(tmp_path))
    assert kinds(log) == ["make", "measure"] * 2
    work(todo, partial(fake, log), Store(tmp_path))
    assert len(ran(log)) == 2 * len(todo)
    work(todo, partial(fake, log), Store(tmp_path))
    assert len(ran(log)) == 2 * len(todo)
    (tmp_path / "pictures" / f"{todo[3].key}_2.png").unlink()
    work(todo, partial(fake, log), Store(tmp_path))
    assert kinds(log)[2 * len(todo) :] == ["make", "measure"]
    assert len(Store(tmp_path).lines) == len(todo)


def test_a_new_metric_is_measured_on_the_pictures_that_are_there(tmp_path):
    log = tmp_path / "log"
    work(jobs(metrics=()), partial(fake, log), Store(tmp_path))
    work(jobs(metrics=("color", "Vendi")), partial(fake, log), Store(tmp_path))
    assert kinds(log) == ["make"] * 6 + ["measure"] * 6
    assert all(line["scores"] == {"color": 0.5, "Vendi": 2.5} for line in Store(tmp_path).lines.values())


def test_a_metric_that_is_not_installed_keeps_no_other_from_being_measured_and_is_tried_by_the_next_run(tmp_path):
    log, todo = tmp_path / "log", jobs(metrics=("color", "DreamSim"))
    missing = {"NoiseOptimizeDreamSimFeatures": "pip install dreamsim"}
    work(todo, partial(fake, log, missing), Store(tmp_path))
    for line in Store(tmp_path).lines.values():
        assert line["scores"] == {"color": 0.5} and line["unmeasured"] == {"DreamSim": "pip install dreamsim"}
    work(todo, partial(fake, log), Store(tmp_path))
    lines = Store(tmp_path).lines.values()
    assert all(line["scores"].keys() == {"color", "DreamSim"} for line in lines)
    assert kinds(log).count("make") == len(todo)


def test_a_job_that_fails_stops_no_other_and_is_tried_again(tmp_path):
    log, todo = tmp_path / "log", jobs()
    work(todo, partial(fake, log, {"NoiseOptimizePinkNoise": "out of memory"}), Store(tmp_path))
    assert {line["failed"] for line in Store(tmp_path).lines.values()} == {"out of memory"}
    work(todo, partial(fake, log), Store(tmp_path))
    assert not any("failed" in line for line in Store(tmp_path).lines.values())


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path):
    todo, log = jobs(metrics=()), tmp_path / "log"
    killed = partial(fake, log, None, (4, tmp_path / "killed"))
    process = multiprocessing.get_context("spawn").Process(target=work, args=(todo, killed, Store(tmp_path)))
    process.start()
    process.join()
    assert process.exitcode != 0 and (tmp_path / "killed").exists()
    assert set(Store(tmp_path).lines) == {job.key for job in todo[:3]}
    work(todo, partial(fake, log), Store(tmp_path))
    assert len(ran(log)) == len(todo)
    assert set(Store(tmp_path).lines) == {job.key for job in todo}


def test_a_line_that_a_crash_cut_off_is_none_and_the_next_is_whole(tmp_path):
    todo, log = jobs(), tmp_path / "log"
    work(todo[:2], partial(fake, log), Store(tmp_path))
    file = tmp_path / "results.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert list(Store(tmp_path).lines) == [todo[0].key]
    work(todo[:3], partial(fake, log), Store(tmp_path))
    store = Store(tmp_path)
    assert set(store.lines) == {job.key for job in todo[:3]}
    store.compact()
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == list(store.lines)


def test_a_worker_of_a_cluster_needs_neither_the_pack_nor_torch():
    code = "import sys, study.cluster, study.comfy; assert not {'noise_optimize', 'torch', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", check=True)


def test_the_jobs_of_a_worker_that_is_killed_go_to_others_and_nothing_is_counted_twice(tmp_path):
    todo, log = jobs(prompts=("a", "b", "c", "d"), metrics=()), tmp_path / "log"
    from ray.cloudpickle import register_pickle_by_value

    register_pickle_by_value(fake_comfy)
    connect = partial(fake, log, None, (2, tmp_path / "killed"), 1.0)
    cluster.spread(todo, connect, tmp_path, workers=2, prompts=1)
    lines = [json.loads(line)["key"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert (tmp_path / "killed").exists()
    assert sorted(lines) == sorted(job.key for job in todo)
    assert len(ran(log)) == len(todo)  # what the lost worker had done was not done again
    assert most_at_once(log) == 2 and os.getpid() not in {process for process, *_ in ran(log)}


FACTS = {"graph": "g.json", "model": "m", "prompts": 2, "sets": 1, "steps": 4}


def study(folder, ways=None):
    """A folder as a run leaves it, with scores that are stated: way -> metric -> one number for each prompt."""
    ways = ways or {WHITE: {"color": (0.1, 0.3)}, PINK: {"color": (0.2, 0.6)}}
    rows = [way for way in EXPERIMENTS["ways"](STUDY) if way.name in ways]
    todo, store = jobs(ways=rows), Store(folder)
    plan.write(folder, todo, {"ways": rows}, FACTS)
    for job in todo:
        scores = {metric: values[job.prompt == "a fish"] for metric, values in ways[job.way].items()}
        line = {"key": job.key, "way": job.way, "prompt": job.prompt, "seed": job.seed, "passes": 1.0, "seconds": 2.0}
        store.add(line | {"scores": scores}, [picture()] * 4)
    return plan.Results(folder)


def test_the_table_has_means_errors_and_differences_by_pairs(tmp_path):
    (row,) = [line for line in table.experiment(study(tmp_path), "ways").splitlines() if PINK in line]
    assert row == f"| {PINK} | 2 of 2 | 1 | 2.0 | 0.400 (0.200)<br>+0.200 (0.100) |"


def test_every_number_of_the_source_is_beside_ours_and_what_is_missing_is_said(tmp_path):
    results = study(tmp_path, {WHITE: {"Vendi": (2.0, 3.0)}, PINK: {}})
    said = table.beside_the_source(results)
    for models in PUBLISHED.values():
        for numbers in models.values():
            assert all(f"{number:.3f}" in said for number in numbers.values())
    vendi = said[said.index("| Vendi |") :].splitlines()
    assert vendi[2] == "| white, here | 2.500 (0.500) | not measured yet | not measured yet |"


def test_ways_that_are_the_same_graph_each_have_their_row(tmp_path):
    rows = EXPERIMENTS["spectra"](STUDY)
    todo = jobs(ways=rows)
    plan.write(tmp_path, todo, {"spectra": rows}, FACTS)
    work(distinct(todo), partial(fake, tmp_path / "log"), Store(tmp_path))
    plan.write(tmp_path, jobs(ways=EXPERIMENTS["ways"](STUDY)), {"ways": EXPERIMENTS["ways"](STUDY)}, FACTS)
    experiments = plan.Results(tmp_path).experiments
    assert {len(lines) for lines in experiments["spectra"].values()} == {2}
    assert experiments["ways"][PINK] == experiments["spectra"]["alpha 0.20"]  # made for one, and counted for both


def test_a_folder_takes_no_study_of_another_graph(tmp_path):
    study(tmp_path)
    with pytest.raises(ValueError, match="has a study of another graph, g.json"):
        plan.write(tmp_path, [], {}, FACTS | {"model": "another"})


def test_lines_of_another_graph_in_the_same_folder_are_not_counted(tmp_path):
    results = study(tmp_path)
    stranger = next(iter(results.store.lines.values())) | {"key": "of another graph", "scores": {"color": 9.0}}
    results.store.add(stranger)
    assert "9.0" not in table.tables(plan.Results(tmp_path))


def test_the_page_has_its_pictures_inside_or_where_they_are_too_many_names_their_files(tmp_path):
    results = study(tmp_path)
    assert page.html(results, inside=4).count("data:image/webp") == 2 * 2 * 4
    said = page.html(results, inside=3)
    assert "data:image" not in said
    files = {name for line in results.store.lines.values() for name in line["pictures"]}
    assert len(files) == 2 * 2 * 4 and all(f'"{name}"' in said and (tmp_path / name).exists() for name in files)


def test_votes_are_counted_by_way_the_last_of_a_person_on_a_pair(tmp_path):
    vote = {"prompt": "a", "seed": 1, "way": "w", "question": "varied", "side": "left"}
    first = {"votes": [vote | {"for": "plain"}, vote | {"for": "way"}]}
    second = {"votes": [vote | {"for": "way"}, vote | {"seed": 2, "for": "same"}]}
    for name, content in (("1", first), ("2", second)):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    counted = votes.tally(votes.read([tmp_path / "1", tmp_path / "2"]))
    assert counted.splitlines()[-1] == "| w | differ more | 2 | 1 | 0 | 0.500 |"
    assert votes.chance(5, 0) == pytest.approx(2 / 32) and votes.chance(3, 3) == 1
