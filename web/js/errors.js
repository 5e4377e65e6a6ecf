// An error of a node of the pack, on screen in its own words: the frontend's box says only that a node failed, or that it
// refused a value, and keeps what to change behind two clicks.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const BOX = '[data-testid="error-overlay-messages"] p';
const [STEP, PATIENCE] = [100, 3000]; // milliseconds
const ours = (type) => type?.startsWith("NoiseOptimize");

/** The first answer of `look` that is one, after the frontend has had time to write, and as soon as there is one. */
async function soon(look) {
  for (let waited = 0; waited < PATIENCE; waited += STEP) {
    await new Promise((resolve) => setTimeout(resolve, STEP));
    const found = look();
    if (found) return found;
  }
}

/** Put a sentence in the place of the frontend's own; older frontends have a dialog, with the sentence in it. */
async function say(sentence) {
  if (!app.extensionManager.setting.get("Comfy.RightSidePanel.ShowErrorsTab")) return;
  const box = await soon(() => document.querySelector(BOX));
  if (box) {
    box.textContent = sentence;
    box.style.webkitLineClamp = "unset";
  } else app.extensionManager.toast.add({ severity: "error", summary: "Noise Optimize", detail: sentence });
}

/** What a node's own look at its inputs said of the graph that was posted last, without the name of the input. */
function refusal() {
  const nodes = Object.values(app.lastNodeErrors ?? {}).filter(({ class_type }) => ours(class_type));
  const found = nodes.flatMap(({ errors }) => errors).find(({ type }) => type === "custom_validation_failed");
  return found?.details.replace(/^\w+ - /, "");
}

app.registerExtension({
  name: "noise_optimize.errors",

  setup() {
    api.addEventListener("execution_error", ({ detail }) => {
      if (ours(detail.node_type)) say(detail.exception_message.trim());
    });
    api.addEventListener("promptQueueing", async () => {
      const sentence = await soon(refusal);
      if (sentence) say(sentence);
    });
  },
});
