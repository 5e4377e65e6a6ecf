// Keep these, push the rest away: the pictures of a node as a grid in which a click keeps one, and beside it how their
// variety rose. It serves every node with the widgets keep and kept_from.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { nodeOf, once } from "./wires.js";

const STYLE = `
.noise-optimize-keep { display: flex; flex-direction: column; gap: 4px; height: 100%; overflow: hidden; font-size: 12px;
  color: var(--input-text, #ddd); }
.noise-optimize-keep:not(.on) { display: none; }
.noise-optimize-keep .grid { flex: 1; min-height: 0; display: grid; gap: 4px; }
.noise-optimize-keep .grid > * { min-width: 0; min-height: 0; }
.noise-optimize-keep img { width: 100%; height: 100%; object-fit: contain; display: block; border-radius: 3px; }
.noise-optimize-keep button { position: relative; padding: 0; border: 0; border-radius: 6px; background: none; color: inherit;
  cursor: pointer; overflow: hidden; }
.noise-optimize-keep button::before { content: ""; position: absolute; inset: 0; border: 3px solid transparent;
  border-radius: 6px; box-shadow: inset 0 0 0 1px #8884; }
.noise-optimize-keep button:hover::before, .noise-optimize-keep button:focus-visible::before { border-color: #bbb; }
.noise-optimize-keep button[aria-pressed="true"]::before { border-color: #e0a458; }
.noise-optimize-keep .pi { position: absolute; top: 8px; right: 8px; padding: 4px; border-radius: 4px; background: #e0a458;
  color: #222; font-size: 12px; }
.noise-optimize-keep button[aria-pressed="false"] .pi { display: none; }
.noise-optimize-keep .foot { display: flex; align-items: center; gap: 8px; height: 28px; }
.noise-optimize-keep .foot[hidden] { display: none; }
.noise-optimize-keep .foot span { max-width: 70%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.noise-optimize-keep svg { flex: 1; min-width: 40px; height: 28px; }
.noise-optimize-keep polyline { fill: none; stroke: #6fb7c9; stroke-width: 2; vector-effect: non-scaling-stroke; }
[data-testid^="node-body-"]:has(.noise-optimize-keep) > img,
[data-testid^="node-body-"]:has(.noise-optimize-keep) > img + div { display: none; }
`; // the last rule: Nodes 2.0 would show the live picture, too, and leave it there beside the result
const TALLEST = 640; // pixels of the grid on the classic canvas
const FOOT = 36;

const widget = (node, name) => node.widgets?.find((each) => each.name === name);
const numbers = (text) => (text.match(/\d+/g) ?? []).map(Number);
const keeps = (node) => widget(node, "keep") && widget(node, "kept_from");

/** An element with attributes and children. */
function made(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The panel of one node. run: what the node told of its last run; images: its pictures. */
class Panel {
  constructor(node) {
    this.node = node;
    this.run = null;
    this.images = [];
    this.shape = [1, 1, 1]; // columns, rows, and height over width of a picture
    this.grid = made("div", { class: "grid" });
    this.words = made("span", {});
    const svg = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
    this.line = svg("polyline");
    this.chart = svg("svg");
    this.chart.setAttribute("viewBox", "0 0 100 28");
    this.chart.setAttribute("preserveAspectRatio", "none");
    this.chart.setAttribute("role", "img");
    this.chart.append(this.line);
    this.element = made("div", { class: "noise-optimize-keep" }, this.grid);
    this.foot = made("div", { class: "foot" }, this.chart, this.words);
    this.element.append(this.foot);
  }

  get height() {
    if (!this.element.classList.contains("on")) return 0;
    const [columns, rows, aspect] = this.shape;
    return Math.min(TALLEST, ((this.node.size[0] - 24) / columns) * aspect * rows) + (this.foot.hidden ? 0 : FOOT);
  }

  /** Fill the grid, and let the node grow to hold it. */
  fill(columns, rows, aspect, ...cells) {
    this.shape = [columns, rows, aspect];
    this.grid.style.gridTemplate = `repeat(${rows}, 1fr) / repeat(${columns}, 1fr)`;
    this.grid.replaceChildren(...cells);
    this.element.classList.add("on");
    this.fit();
  }

  fit() {
    const { node } = this;
    if (!LiteGraph.vueNodesMode) node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    node.setDirtyCanvas(true, true);
  }

  /** The batch as it is while the node runs. */
  preview(blob) {
    const source = URL.createObjectURL(blob);
    const live = made("img", { src: source, alt: "The pictures so far" });
    live.onload = () => URL.revokeObjectURL(source);
    this.fill(1, 1, 1, live);
  }

  /** Pictures that are kept: as the widgets say, as long as they mean the pictures that are shown. */
  get kept() {
    const { keep, kept_from, file } = this.run;
    const asked = numbers(widget(this.node, "keep").value);
    const from = widget(this.node, "kept_from").value.trim();
    return new Set(from === file ? asked : from === kept_from ? asked.filter((each) => keep.includes(each)) : []);
  }

  toggle(number) {
    const kept = this.kept;
    if (!kept.delete(number)) kept.add(number);
    once(this.node.graph, () => {
      this.write("keep", [...kept].sort((a, b) => a - b).join(", "));
      this.write("kept_from", kept.size ? this.run.file : "");
    });
  }

  write(name, value) {
    const { node } = this;
    const target = widget(node, name);
    target.value = value;
    target.callback?.(value, app.canvas, node);
    node.setDirtyCanvas(true, true);
  }

  mark() {
    if (!this.run) return;
    const kept = this.kept;
    for (const [i, button] of [...this.grid.children].entries()) {
      const on = kept.has(i + 1);
      button.setAttribute("aria-pressed", on);
      button.title = on ? `Picture ${i + 1} is kept; click to let it go` : `Keep picture ${i + 1}`;
    }
  }

  /** The button of a picture; of its number alone, where the node has no VAE. */
  cell(number, image) {
    const button = made("button", { type: "button" }, made("i", { class: "pi pi-thumbtack" }));
    if (image) {
      const source = api.apiURL(`/view?${new URLSearchParams(image)}`);
      button.prepend(made("img", { src: source, alt: `Picture ${number}` }));
    } else button.prepend(`Picture ${number}`);
    button.addEventListener("click", () => this.toggle(number));
    return button;
  }

  /** The pictures of a run that has ended. */
  show(run, images) {
    [this.run, this.images] = [run, images];
    const columns = Math.ceil(Math.sqrt(run.pictures));
    const cells = Array.from({ length: run.pictures }, (_, i) => this.cell(i + 1, images[i]));
    const first = cells[0].querySelector("img");
    if (first)
      first.onload = () => {
        this.shape[2] = first.naturalHeight / first.naturalWidth;
        this.fit();
      };
    this.draw(run);
    this.fill(columns, Math.ceil(run.pictures / columns), first ? this.shape[2] : 0.3, ...cells);
    this.mark();
  }

  /** Back to the pictures of the last run, where one has failed or was cancelled. */
  back() {
    if (this.run) this.show(this.run, this.images);
  }

  /** How the score rose; nothing where a run looked at none. */
  draw({ label, line }) {
    this.foot.hidden = !line.length;
    const [low, high] = [Math.min(...line), Math.max(...line)];
    const at = (value, i) => [(100 * i) / Math.max(1, line.length - 1), 25 - (22 * (value - low)) / (high - low || 1)];
    this.line.setAttribute("points", line.map((value, i) => at(value, i).join(",")).join(" "));
    this.words.textContent = line.length ? `${label} ${line[0].toFixed(2)} → ${line.at(-1).toFixed(2)}` : "";
    this.chart.setAttribute("aria-label", this.words.textContent);
  }
}

const panels = new WeakMap();
let running; // the panel whose node runs

function add(node) {
  const panel = new Panel(node);
  panels.set(node, panel);
  const shown = node.addDOMWidget("grid of pictures", "noise_optimize_keep", panel.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => panel.height,
  });
  shown.serialize = false;
  for (const each of [widget(node, "keep"), widget(node, "kept_from")]) {
    const { callback } = each;
    each.callback = function (...given) {
      callback?.apply(this, given);
      panel.mark();
    };
  }
  node.hideOutputImages = true; // in Nodes 2.0
  node.onDrawBackground = () => {}; // where the classic canvas adds the same pictures once more
  const { onExecuted } = node;
  node.onExecuted = function (output) {
    onExecuted?.call(this, output);
    if (output?.kept) panel.show(output.kept[0], output.images ?? []);
    running = undefined;
  };
}

/** Show what a graph's nodes have shown before, where it is opened again. */
function restore(outputs) {
  for (const [key, output] of Object.entries(outputs ?? {})) {
    const [id, graph] = key.split(":").reverse();
    const node = (graph ? app.rootGraph.subgraphs.get(graph) : app.rootGraph)?.getNodeById(Number(id));
    if (output?.kept && !panels.get(node)?.run) panels.get(node)?.show(output.kept[0], output.images ?? []);
  }
}

app.registerExtension({
  name: "noise_optimize.keep",

  init() {
    document.head.append(made("style", {}, STYLE));
    const panelOf = (id) => (running = panels.get(nodeOf(id)));
    api.addEventListener("noise_optimize.line", ({ detail }) => panelOf(detail.node)?.draw(detail));
    api.addEventListener("b_preview_with_metadata", ({ detail }) => panelOf(detail.nodeId)?.preview(detail.blob));
    for (const end of ["execution_error", "execution_interrupted"])
      api.addEventListener(end, () => {
        running?.back();
        running = undefined;
      });
  },

  nodeCreated(node) {
    if (keeps(node)) add(node);
  },

  afterConfigureGraph: () => setTimeout(() => restore(app.nodeOutputs)),
  onNodeOutputsUpdated: restore,
});
