// Colors of the pack's own sockets. Both renderers know colors by type: the canvas from two tables, Nodes 2.0 from CSS.
import { app } from "../../../scripts/app.js";

const COLORS = { NOISE_OPTIMIZE_FEATURES: "#6fb7c9", NOISE_OPTIMIZE_OBJECTIVE: "#e0a458" };

function paint() {
  for (const [type, color] of Object.entries(COLORS)) {
    LGraphCanvas.link_type_colors[type] = color;
    if (app.canvas) app.canvas.default_connection_color_byType[type] = color;
    document.documentElement.style.setProperty(`--color-datatype-${type}`, color);
  }
}

app.registerExtension({
  name: "noise_optimize.colors",
  setup: () => setTimeout(paint), // the palette is laid on after every setup
  afterConfigureGraph: paint,
});
