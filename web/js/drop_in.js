// What a right click puts into a graph that people have: Diverse Seeds on a model wire, or another sampler in place of
// one, wired as that was.
import { app } from "../../../scripts/app.js";
import { firstHeight } from "./folding.js";
import { swap } from "./swap.js";
import { ends, join, once, placeBefore } from "./wires.js";

const SEEDS = "NoiseOptimizeDiverseSeeds";
const PICTURES = 4; // of a graph that makes one: nothing differs from itself
const SWAPS = {
  KSampler: { type: "NoiseOptimizeDiverseSampler", outputs: [0] },
  SamplerCustomAdvanced: { type: "NoiseOptimize", outputs: [1, 1], finish: giveObjective },
};

function add(graph, type, beside) {
  const node = LiteGraph.createNode(type);
  node.setSize([node.size[0], firstHeight(node)]);
  graph.add(node);
  placeBefore(node, beside);
  return node;
}

/** Put Diverse Seeds on the wire that leads to this input. */
function putSeedsBefore(node, slot) {
  const { graph } = node;
  const wire = ends(graph, node.inputs[slot].link);
  const seeds = add(graph, SEEDS, node);
  join(graph, { ...wire, target_id: seeds.id, target_slot: 0 });
  seeds.connect(0, node, slot);
}

/** The wire of the VAE that decodes what a node makes, however many nodes lie between; none where that is outside. */
function vaeBehind(node, seen = new Set([node])) {
  const { graph } = node;
  const links = node.outputs.filter(({ type }) => ["LATENT", "*"].includes(type)).flatMap(({ links }) => links ?? []);
  for (const target of links.map((id) => graph.getNodeById(ends(graph, id).target_id))) {
    if (!target || seen.has(target)) continue;
    const vae = target.inputs.find(({ type, link }) => type === "VAE" && link != null);
    const wire = vae ? ends(graph, vae.link) : vaeBehind(target, seen.add(target));
    if (wire) return wire;
  }
}

/** What Noise Optimize needs beyond the wires of a sampler: pictures that differ in layout and color, and several. */
function giveObjective(node) {
  const diversity = add(node.graph, "NoiseOptimizeDiversity", node);
  const features = add(node.graph, "NoiseOptimizeLatentFeatures", diversity);
  features.connect(0, diversity, "features");
  diversity.connect(0, node, "objective");
  const latent = node.getInputNode(node.findInputSlot("latent_image"));
  if (latent?.widgets?.find(({ name }) => name === "batch_size")?.value === 1)
    node.widgets.find(({ name }) => name === "total_pictures").value = PICTURES;
}

function makeDiverse(sampler) {
  const { type, outputs, finish } = SWAPS[sampler.type];
  const node = swap(sampler, type, outputs);
  const [vae, slot] = [vaeBehind(node), node.findInputSlot("vae")];
  if (vae) join(node.graph, { ...vae, target_id: node.id, target_slot: slot });
  finish?.(node);
}

/** The samplers that can be swapped at this node: itself, or those in the subgraph that it stands for. */
function samplers(node) {
  if (node.subgraph) return node.subgraph.nodes.flatMap(samplers);
  return SWAPS[node.type]?.type in LiteGraph.registered_node_types ? [node] : [];
}

app.registerExtension({
  name: "noise_optimize.drop_in",

  getNodeMenuItems(node) {
    const items = [];
    const found = samplers(node);
    if (found.length)
      items.push({
        content: "Make it diverse",
        callback: () => once(node.graph, () => found.forEach(makeDiverse)),
      });
    const slot = node.inputs?.findIndex((input) => input.type === "MODEL" && input.link != null) ?? -1;
    if (slot >= 0 && node.comfyClass !== SEEDS)
      items.push({
        content: "Add Diverse Seeds before this",
        callback: () => once(node.graph, () => putSeedsBefore(node, slot)),
      });
    return items;
  },
});
