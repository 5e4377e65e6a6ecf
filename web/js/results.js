// The result of a node of the pack takes the place of its live picture, and the live picture that of an older result:
// Nodes 2.0 would show both, and the classic canvas the last picture seen on the way.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { nodeOf } from "./wires.js";

/** Where the frontend keeps what nodes show; without it nothing is dropped. */
const store = () => app.extensionManager._p?._s?.get("nodeOutput");

/** The node of this id, where it is one whose pictures the frontend shows. */
function shower(id) {
  const node = nodeOf(id);
  return node?.comfyClass?.startsWith("NoiseOptimize") && !node.hideOutputImages ? node : undefined;
}

function dropPreview({ id, graph }) {
  store()?.revokePreviewsByLocatorId?.(graph.isRootGraph ? `${id}` : `${graph.id}:${id}`);
}

app.registerExtension({
  name: "noise_optimize.results",

  setup() {
    api.addEventListener("executing", ({ detail }) => {
      const node = detail && shower(detail);
      if (node) store()?.removeNodeOutputsForNode?.(node);
    });
    api.addEventListener("executed", ({ detail: { node, display_node, output } }) => {
      const shown = output?.images && shower(display_node ?? node);
      if (shown) dropPreview(shown);
    });
  },
});
