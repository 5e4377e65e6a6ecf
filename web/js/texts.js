// What a node of the pack has written into itself stays there: newer frontends wipe it out when the run ends.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { nodeOf } from "./wires.js";

const texts = new Map(); // of the graph that is open, by the id that a node runs under

const isShown = (node) => node.widgets?.some(({ name }) => name === "$$node-text-preview");

function writeAgain() {
  for (const [nodeId, text] of texts) {
    const node = nodeOf(nodeId);
    if (node && !isShown(node)) api.dispatchCustomEvent("progress_text", { nodeId, text });
  }
}

app.registerExtension({
  name: "noise_optimize.texts",

  setup() {
    api.addEventListener("progress_text", ({ detail: { nodeId, text } }) => {
      if (nodeOf(nodeId)?.comfyClass?.startsWith("NoiseOptimize")) texts.set(nodeId, text);
    });
    for (const end of ["execution_success", "execution_error", "execution_interrupted"])
      api.addEventListener(end, () => setTimeout(writeAgain));
  },

  afterConfigureGraph: () => texts.clear(),
});
