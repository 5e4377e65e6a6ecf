// The pack in the browser: colors of its sockets, advanced widgets folded on the classic canvas, and Diverse Seeds put
// on a model wire by right click.
import { app } from "../../../scripts/app.js";

const OURS = "NoiseOptimize";
const SEEDS = "NoiseOptimizeDiverseSeeds";
const MODEL = "MODEL";
const COLORS = { NOISE_OPTIMIZE_FEATURES: "#6fb7c9", NOISE_OPTIMIZE_OBJECTIVE: "#e0a458" };

/** Both renderers know colors by type: the canvas from two tables, Nodes 2.0 from CSS. */
function paint() {
  for (const [type, color] of Object.entries(COLORS)) {
    LGraphCanvas.link_type_colors[type] = color;
    if (app.canvas) app.canvas.default_connection_color_byType[type] = color;
    document.documentElement.style.setProperty(`--color-datatype-${type}`, color);
  }
}

/** Advanced widgets of a node by the classic canvas, which knows no folding: hidden until they are asked for. */
const advanced = (node) => node.widgets?.filter((widget) => widget.options?.advanced) ?? [];

function fold(node, folded) {
  for (const widget of advanced(node)) widget.hidden = folded;
  node.properties.advanced = !folded;
  node.setSize([node.size[0], node.computeSize()[1]]);
  node.setDirtyCanvas(true, true);
}

/** One step for undo, whatever `change` does to the graph. */
function once(graph, change) {
  graph.beforeChange();
  try {
    change();
  } finally {
    graph.afterChange();
  }
  app.extensionManager.workflow.activeWorkflow?.changeTracker?.captureCanvasState?.();
}

/** Left of a node, and higher where something stands there already. */
function placeBefore(node, beside) {
  const [width, height] = [node.size[0], node.size[1] + LiteGraph.NODE_TITLE_HEIGHT];
  const [x, right] = [beside.pos[0] - width - 40, beside.pos[0] - 40];
  const taken = (other, y) => {
    const [left, top] = [other.pos[0], other.pos[1] - LiteGraph.NODE_TITLE_HEIGHT];
    const free = left > right || left + other.size[0] < x || top > y + height || other.pos[1] + other.size[1] < y;
    return other !== node && !free;
  };
  let y = beside.pos[1];
  while (beside.graph.nodes.some((other) => taken(other, y - LiteGraph.NODE_TITLE_HEIGHT))) y -= 20;
  node.pos = [x, y];
}

/** Put Diverse Seeds on the wire that leads to this input. */
function putSeedsBefore(node, slot) {
  const { graph } = node;
  const link = graph.getLink(node.inputs[slot].link);
  const seeds = LiteGraph.createNode(SEEDS);
  graph.add(seeds);
  placeBefore(seeds, node);
  if (link.originIsIoNode) graph.inputs[link.origin_slot].connect(seeds.inputs[0], seeds);
  else graph.getNodeById(link.origin_id).connect(link.origin_slot, seeds, 0);
  seeds.connect(0, node, slot);
}

app.registerExtension({
  name: "noise_optimize",

  setup: () => setTimeout(paint), // the palette is laid on after every setup
  afterConfigureGraph: paint,

  nodeCreated(node) {
    if (node.comfyClass?.startsWith(OURS) && advanced(node).length && !LiteGraph.vueNodesMode)
      setTimeout(() => fold(node, !node.properties.advanced));
  },

  getNodeMenuItems(node) {
    const items = [];
    if (node.comfyClass?.startsWith(OURS) && advanced(node).length && !LiteGraph.vueNodesMode)
      items.push({
        content: node.properties.advanced ? "Hide advanced inputs" : "Show advanced inputs",
        callback: () => fold(node, node.properties.advanced),
      });
    const slot = node.inputs?.findIndex((input) => input.type === MODEL && input.link != null) ?? -1;
    if (slot >= 0 && node.comfyClass !== SEEDS)
      items.push({
        content: "Add Diverse Seeds before this",
        callback: () => once(node.graph, () => putSeedsBefore(node, slot)),
      });
    return items;
  },
});
