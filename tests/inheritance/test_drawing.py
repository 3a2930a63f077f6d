"""Pictures are written, legible in number, and nobody's global state is touched."""

import pathlib
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from hyperforget_jax.inheritance import Edge, Graph, Node, draw
from tests.inheritance.graphs import DIAMOND, EDGES

ROOT = pathlib.Path(__file__).parents[2]


def chain(count, prefix="task-"):
    names = [f"{prefix}{row}" for row in range(count)]
    return Graph(
        [Node(name, row, (0,)) for row, name in enumerate(names)],
        [Edge(*pair, "incremental") for pair in zip(names, names[1:], strict=False)],
    )


def star(count):
    clients = [f"client-{row}" for row in range(count - 2)]
    return Graph(
        [
            Node("server", 0, (0,)),
            *(Node(client, 1, (0,)) for client in clients),
            Node("mean", 2, (0,)),
        ],
        [
            *(Edge("server", client) for client in clients),
            *(Edge(each, "mean", "average", 1 / len(clients)) for each in clients),
        ],
    )


def accuracies(graph):
    values = np.linspace(0, 1, len(graph.nodes))
    return dict(zip(graph.names, values, strict=True))


def texts(figure, panel):
    shown = [text.get_text() for text in figure.axes[panel].texts]
    return [text for text in shown if text]


def test_both_panels_show_every_node_and_number(tmp_path):
    graph = DIAMOND
    after = dict.fromkeys(graph.names, 0.125)
    path = tmp_path / "new" / "graph.png"
    figure = draw(
        graph, accuracies(graph), after, roots=["left"], path=path, title="costs $1_a"
    )
    assert path.stat().st_size > 20_000
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_allclose(image.size, 150 * figure.get_size_inches(), atol=1)
    assert set(texts(figure, 0)) == {"0.00", "0.25", "0.50", "0.75", "1.00"} | set(
        graph.names
    )
    assert sorted(texts(figure, 1)) == sorted(["0.12"] * 5 + list(graph.names))
    assert [axes.get_title() for axes in figure.axes[:2]] == [
        "before unlearning",
        "after unlearning",
    ]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["average", "dispatch", "transfer", "asked to forget"]
    for axes in figure.axes[:2]:
        nodes, ring = axes.collections
        place = graph.names.index("left")
        np.testing.assert_array_equal(ring.get_offsets()[0], nodes.get_offsets()[place])
        arrows = [text for text in axes.texts if not text.get_text()]
        assert len(arrows) == len(EDGES)
    assert [tick for tick in figure.axes[2].get_ylim()] == [0, 1]


def test_parents_are_left_of_their_children():
    figure = draw(DIAMOND, accuracies(DIAMOND), accuracies(DIAMOND))
    x = dict(
        zip(DIAMOND.names, figure.axes[0].collections[0].get_offsets(), strict=True)
    )
    assert all(x[edge.parent][0] < x[edge.child][0] for edge in EDGES)


@pytest.mark.parametrize(
    "graph", [chain(1), chain(30), star(30)], ids=["one", "chain", "star"]
)
def test_large_graphs_stay_legible(graph):
    figure = draw(graph, accuracies(graph), accuracies(graph), title="forgetting")
    figure.canvas.draw()
    count = len(graph.nodes)
    for axes in figure.axes[:2]:
        texts = [text for text in axes.texts if text.get_text()]
        assert len(texts) == 2 * count
        assert min(text.get_fontsize() for text in texts) >= 4.5
        # Numbers stay inside their nodes, and nothing leaves the figure.
        size = np.sqrt(axes.collections[0].get_sizes()[0]) * figure.dpi / 72
        for text in texts:
            box = text.get_window_extent()
            if text.get_text() not in graph.names:
                assert box.width <= size
            assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    assert max(figure.get_size_inches()) < 17


def test_what_cannot_be_drawn_is_refused(tmp_path):
    graph = DIAMOND
    good = accuracies(graph)
    short = {name: 0.5 for name in graph.names if name != "right"}
    for before, after, options, message in (
        (short, good, {}, r"before has no forget accuracy of \['right'\]"),
        (good, short, {}, r"after has no forget accuracy of \['right'\]"),
        (good, {**good, "left": 1.5}, {}, r"after\['left'\] is 1.5: .* \[0, 1\]"),
        ({**good, "left": np.nan}, good, {}, r"before\['left'\] is nan"),
        (good, good, {"roots": ["lef"]}, "roots: .* did you mean left?"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(graph, before, after, path=tmp_path / "g.png", **options)
    assert not any(tmp_path.iterdir())


def test_global_state_is_left_alone(tmp_path):
    graph = DIAMOND
    settings = dict(matplotlib.rcParams)
    draw(graph, accuracies(graph), accuracies(graph))
    assert dict(matplotlib.rcParams) == settings
    code = (
        "import sys, tests.inheritance.test_drawing as t; g = t.DIAMOND; "
        "t.draw(g, t.accuracies(g), t.accuracies(g), path=sys.argv[1]); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "g.png")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"
