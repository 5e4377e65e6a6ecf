"""Chinese says what English says: nothing is missing, left over, or says other numbers, options or nodes."""

import json
import re

import pytest
import translations
from pack import ROOT

import noise_optimize.nodes as pack_nodes

ENGLISH = translations.english()
CHINESE = json.loads(translations.CHINESE.read_text(encoding="utf-8"))
STRINGS = set(translations.strings(ENGLISH))
MAIN = {
    language: json.loads((ROOT / "locales" / language / "main.json").read_text("utf-8")) for language in ("en", "zh")
}
NUMBER = re.compile(r"\d+(?:\.\d+)?")
HOST_CATEGORIES = {"noise", "sampling"}  # which the host's own Chinese has


def test_every_string_has_its_chinese_and_none_is_left_over():
    """To mend this, write the Chinese of what is missing into locales/zh.json and delete what is stale."""
    missing, stale = STRINGS - set(CHINESE), set(CHINESE) - STRINGS
    assert (missing, stale) == (set(), set())


def test_the_file_that_the_frontend_reads_is_made_from_them():
    """To mend this: python tests/support/translations.py > locales/zh/nodeDefs.json"""
    written = translations.NODES.read_text(encoding="utf-8")
    assert written == translations.text(translations.translated(ENGLISH, CHINESE))


def test_a_new_string_is_asked_for_and_a_wire_is_found_in_its_choice():
    new = {"Node": {"display_name": "Diversity", "inputs": {"weight": {"tooltip": "Never said before."}}}}
    with pytest.raises(KeyError, match="Never said before"):
        translations.translated(new, CHINESE)
    assert ENGLISH["NoiseOptimizeDiversity"]["inputs"]["target_value"]["name"] == "value"


@pytest.mark.parametrize("string", sorted(STRINGS & set(CHINESE)))
def test_chinese_has_the_same_numbers_and_no_syntax_of_the_frontends(string):
    assert set(NUMBER.findall(string)) == set(NUMBER.findall(CHINESE[string]))
    assert not set("{}|@") & set(CHINESE[string]), "vue-i18n reads these as its own"


@pytest.mark.parametrize(
    "node", [node for group in pack_nodes.GROUPS for node in group.NODES], ids=lambda n: n.__name__
)
def test_options_keep_their_names_as_the_widget_shows_them(node):
    for part in node.GET_NODE_INFO_V1()["input"].values():
        for name, (kind, *settings) in part.items():
            options = kind if isinstance(kind, list) else (settings[0].get("options", ()) if settings else ())
            names = [each["key"] if isinstance(each, dict) else str(each) for each in options]
            tooltip = settings[0].get("tooltip", "") if settings else ""
            explained = [option for option in names if re.search(rf"(^|[ .]){re.escape(option)}: ", tooltip)]
            assert not [option for option in explained if f"{option}：" not in CHINESE[tooltip]], name


def test_nodes_are_called_alike_wherever_they_are_named():
    """Names of more than one word, which mean nothing else."""
    names = [words["display_name"] for words in ENGLISH.values() if " " in words["display_name"]]
    for string in STRINGS:
        for name in names:
            longer = any(name in other and other in string for other in names if other != name)
            assert name not in string or longer or CHINESE[name] in CHINESE[string], (name, string)


def test_categories_and_menu_entries_are_there_in_chinese():
    chinese = MAIN["zh"]
    parts = {
        part for group in pack_nodes.GROUPS for node in group.NODES for part in node.GET_SCHEMA().category.split("/")
    }
    assert parts == HOST_CATEGORIES | set(chinese["nodeCategories"])
    script = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "web" / "js").rglob("*.js"))
    entries = set(re.findall(r'"((?:Add|Hide|Show|Make) [^"]+)"', script))
    assert entries and entries == set(chinese["contextMenu"])
    assert MAIN["en"]["templateWorkflows"].keys() == chinese["templateWorkflows"].keys()
