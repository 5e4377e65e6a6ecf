// Advanced widgets on the classic canvas, which knows no folding: hidden until they are asked for.
import { app } from "../../../scripts/app.js";

const advanced = (node) => node.widgets?.filter((widget) => widget.options?.advanced) ?? [];
const folds = (node) =>
  node.comfyClass?.startsWith("NoiseOptimize") && advanced(node).length && !LiteGraph.vueNodesMode;

function hide(node, hidden) {
  for (const widget of advanced(node)) widget.hidden = hidden;
}

function fold(node, folded) {
  hide(node, folded);
  node.properties.advanced = !folded;
  node.setSize([node.size[0], node.computeSize()[1]]);
  node.setDirtyCanvas(true, true);
}

/** How high a new node is as either renderer first shows it: without its advanced widgets. */
export function firstHeight(node) {
  hide(node, true);
  const [, height] = node.computeSize();
  hide(node, false);
  return height;
}

app.registerExtension({
  name: "noise_optimize.folding",

  nodeCreated(node) {
    if (folds(node)) setTimeout(() => fold(node, !node.properties.advanced)); // properties are loaded after this
  },

  getNodeMenuItems: (node) =>
    folds(node)
      ? [
          {
            content: node.properties.advanced ? "Hide advanced inputs" : "Show advanced inputs",
            callback: () => fold(node, node.properties.advanced),
          },
        ]
      : [],
});
