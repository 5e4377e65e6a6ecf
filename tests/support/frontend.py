"""What a person does in ComfyUI's frontend: find and open a graph, re-plug a wire, press Run, look at the pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page

NODE = "const node = title => app.graph._nodes.find(node => node.title === title);"
IMAGES = f"""{NODE} const images = title => LiteGraph.vueNodesMode
    ? [...document.querySelectorAll(`[data-node-id="${{node(title).id}}"] img`)]
    : node(title).imgs ?? [];"""
SECONDS = 1000  # Playwright counts in milliseconds
SAVED = "JSON.parse(JSON.stringify(app.graph.serialize()))"  # as a file: what is undefined is left out, not null
CLASSIC, NODES_2 = RENDERERS = ("classic", "Nodes 2.0")  # the canvas, and Vue components over it


def drawn(body: str) -> str:
    """JavaScript that draws a graph on a cleared canvas and gives it as it is saved.

    body: what it draws, with graph, made(type, x, y) for a new node, and set(node, name, value) for a widget.
    """
    return f"""() => {{
        const graph = app.graph;
        graph.clear();
        const made = (type, x, y) => {{
            const node = LiteGraph.createNode(type);
            node.pos = [x, y];
            graph.add(node);
            return node;
        }};
        const set = (node, name, value) => {{ node.widgets.find(widget => widget.name === name).value = value }};
        {body}
        return {SAVED};
    }}"""


class Frontend:
    """One page of the frontend. errors: what the browser's console reported as an error, and what nobody caught."""

    def __init__(self, page: Page, url: str, renderer: str = CLASSIC) -> None:
        self.page, self.errors, self.finished = page, [], 0
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.request.post(f"{url}/api/settings/Comfy.TutorialCompleted", data="true")  # no template browser on top
        page.request.post(f"{url}/api/settings/Comfy.VueNodes.Enabled", data=json.dumps(renderer == NODES_2))
        page.goto(url)
        page.wait_for_function("window.app?.graph && window.app.vueAppReady", timeout=120 * SECONDS)
        page.evaluate(
            """() => {
                window.ended = [];
                for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
                    app.api.addEventListener(kind, event => window.ended.push([kind, event.detail]));
            }"""
        )

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def open(self, workflow: dict[str, Any]) -> None:
        """Open a workflow, as dropping its file on the canvas does."""
        self.page.evaluate("async graph => { await app.loadGraphData(graph) }", workflow)
        self.page.wait_for_function("count => app.graph._nodes.length === count", arg=len(workflow["nodes"]))
        self.show_all()

    def templates(self) -> Locator:
        """The template browser, opened."""
        self.page.evaluate("() => { app.extensionManager.command.execute('Comfy.BrowseTemplates') }")
        dialog = self.page.get_by_role("dialog").last
        dialog.get_by_test_id("template-workflows-content").wait_for()
        return dialog

    def search_templates(self, words: str) -> tuple[int, int]:
        """How many templates, of how many, the template browser finds for these words."""
        dialog = self.templates()
        dialog.get_by_placeholder("Search").fill(words)
        self.page.wait_for_timeout(1500)
        return tuple(map(int, re.findall(r"Showing (\d+) of (\d+)", dialog.inner_text())[0]))

    def search_nodes(self, words: str) -> list[str]:
        """The titles of the nodes that the search for a node to add shows for these words, in its order."""
        typed = self.page.locator("input[role=combobox]")
        if not typed.is_visible():
            self.page.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
        typed.fill(words)
        self.page.wait_for_timeout(1500)
        return [each.inner_text().split("\n")[0] for each in self.page.get_by_test_id("result-item").all()]

    def open_template(self, pack: str, name: str) -> None:
        """Open a template by its card, under the name of the pack that brings it."""
        dialog = self.templates()
        dialog.get_by_role("button", name=pack).click()
        dialog.get_by_test_id(f"template-workflow-{name}").click()
        dialog.wait_for(state="hidden")

    def graph(self) -> dict[str, Any]:
        """The open graph as it would be saved."""
        return self.page.evaluate(f"() => {SAVED}")

    def unknown_types(self) -> list[str]:
        """Types of the open graph that this ComfyUI does not have."""
        return self.page.evaluate(
            """() => app.graph._nodes.map(node => node.type)
                .filter(type => !(type in LiteGraph.registered_node_types))"""
        )

    def prompt(self) -> dict[str, Any]:
        """The open graph in API format, as Run would post it."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def connect(self, source: str, output: str, target: str, socket: str) -> None:
        """Drag a wire between two nodes, named by their titles."""
        self.page.evaluate(
            f"""([source, output, target, socket]) => {{
                {NODE}
                const [from, to] = [node(source), node(target)];
                from.connect(from.findOutputSlot(output), to, to.findInputSlot(socket));
            }}""",
            [source, output, target, socket],
        )

    def set(self, title: str, widget: str, value: Any) -> None:
        """Set a widget of a node, named by its title."""
        self.page.evaluate(
            f"""([title, name, value]) => {{
                {NODE}
                node(title).widgets.find(widget => widget.name === name).value = value;
            }}""",
            [title, widget, value],
        )

    def choose(self, title: str, entry: str) -> None:
        """Right-click a node of the graph in sight and choose an entry of its menu."""
        x, y = self.page.evaluate(
            """title => {
                const found = app.canvas.graph.nodes.find(node => node.title === title);
                app.canvas.deselectAll();
                app.canvas.ds.scale = 1;
                app.canvas.centerOnNode(found);
                const box = app.canvas.canvas.getBoundingClientRect();
                const [x, y] = app.canvas.convertOffsetToCanvas([found.pos[0] + 60, found.pos[1] - 12]);
                return [x + box.left, y + box.top];
            }""",
            title,
        )
        self.page.wait_for_timeout(300)
        self.page.mouse.click(x, y, button="right")
        self.page.get_by_text(entry).first.click()
        self.page.wait_for_timeout(500)

    def undo(self, key: str = "Control+z") -> None:
        """Press Ctrl+Z over the canvas."""
        self.page.evaluate("() => { app.canvas.deselectAll(); app.canvas.canvas.focus() }")
        self.page.keyboard.press(key)
        self.page.wait_for_timeout(1000)

    def redo(self) -> None:
        """Press Ctrl+Y over the canvas."""
        self.undo("Control+y")

    def widgets(self, title: str) -> list[str]:
        """The names of the widgets that a node shows."""
        return self.page.evaluate(
            f"title => {{ {NODE} return node(title).widgets.filter(each => !each.hidden).map(each => each.name) }}",
            title,
        )

    def overlapping(self) -> list[list[str]]:
        """Titles of the pairs of nodes in sight that lie on each other."""
        return self.page.evaluate(
            """() => {
                const bar = LiteGraph.NODE_TITLE_HEIGHT, nodes = app.canvas.graph.nodes;
                const apart = (a, b) => a.pos[0] + a.size[0] <= b.pos[0] || a.pos[1] + a.size[1] <= b.pos[1] - bar;
                return nodes.flatMap((a, i) => nodes.slice(i + 1).filter(b => !apart(a, b) && !apart(b, a))
                    .map(b => [a.title, b.title]));
            }"""
        )

    def run(self, timeout: float = 240) -> str:
        """Press Run and wait for the end: "execution_success", or how else it ended."""
        self.page.get_by_test_id("queue-button").first.click()
        self.finished += 1
        self.page.wait_for_function("n => window.ended.length >= n", arg=self.finished, timeout=timeout * SECONDS)
        return self.page.evaluate("() => window.ended.at(-1)[0]")

    def pictures(self, title: str) -> int:
        """How many pictures a node shows, as soon as it shows any."""
        return len(self.shown(title))

    def shown(self, title: str, after: Sequence[str] = ()) -> list[str]:
        """The addresses of the pictures that a node shows, as soon as it shows others than those of before."""
        new = "([title, after]) => images(title).some(image => !after.includes(image.src))"
        self.page.wait_for_function(f"given => {{ {IMAGES} return ({new})(given) }}", arg=[title, list(after)])
        return self.page.evaluate(f"title => {{ {IMAGES} return images(title).map(image => image.src) }}", title)

    def look_at(self, title: str) -> None:
        """Bring a node into the middle of the window, large enough to read."""
        self.page.evaluate(
            f"title => {{ {NODE} app.canvas.ds.scale = 0.9; app.canvas.centerOnNode(node(title)) }}", title
        )
        self.page.wait_for_timeout(500)

    def show_all(self) -> None:
        """Fit the graph into the window: a node loads its pictures when it is in sight."""
        self.page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.page.wait_for_timeout(1500)

    def screenshot(self, path: str) -> None:
        self.show_all()
        self.page.screenshot(path=path)
