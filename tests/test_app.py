"""``hyperforget app``: what the page may ask; and all of it, in a headless browser."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import types
import urllib.error
import urllib.request

import numpy as np
import pytest

from hyperforget_jax.app import asking
from hyperforget_jax.command import main

FINE = {"classes": [3], "method": "pgu", "image": 0}
LIMITS = dict(num_classes=10, num_rows=400, num_pixels=64, largest=16)
BAD = {
    "no JSON": b"{",
    "deep": b"[" * 5_000,
    "unknown field": FINE | {"file": "/etc/passwd"},
    "no image": {"classes": [3], "method": "pgu"},
    "unknown method": FINE | {"method": "retrain"},
    "every class": FINE | {"classes": list(range(10))},
    "a class twice": FINE | {"classes": [3, 3]},
    "no such class": FINE | {"classes": [10]},
    "a class that is none": FINE | {"classes": [True]},
    "a negative loss": FINE | {"loss": -1},
    "no such row": FINE | {"image": 400},
    "too few pixels": FINE | {"image": [0] * 63},
    "too many pixels": FINE | {"image": [0] * 65},
    "too bright": FINE | {"image": [0] * 63 + [17]},
    "no whole number": FINE | {"image": [0.5] * 64},
    "words": FINE | {"image": ["0"] * 64},
}


def as_body(asked):
    return asked if isinstance(asked, bytes) else json.dumps(asked).encode()


def test_what_is_fine_is_read():
    ask = asking.read(as_body(FINE | {"classes": [5, 3], "loss": 2}), **LIMITS)
    assert ask == asking.Ask((3, 5), "pgu", 0, 2.0)
    drawn = asking.read(as_body(FINE | {"image": [16] * 64}), **LIMITS)
    assert drawn.image == (16,) * 64


@pytest.mark.parametrize("asked", BAD.values(), ids=BAD)
def test_what_is_not_fine_is_refused(asked):
    with pytest.raises((ValueError, RecursionError)):
        asking.read(as_body(asked), **LIMITS)


@pytest.fixture(scope="module")
def application():
    """A server whose models are never asked."""
    server = pytest.importorskip("hyperforget_jax.app.server")
    network = types.SimpleNamespace(input_shape=(8, 8, 1))
    test = types.SimpleNamespace(y=np.arange(400) % 10)
    forgetting = types.SimpleNamespace(
        made=types.SimpleNamespace(dataset="digits", hypernetwork=network),
        splits=types.SimpleNamespace(test=test),
        pixels=lambda rows: np.zeros((len(rows), 64), int),
        answer=lambda ask: {"classes": ask.classes, "milliseconds": float("nan")},
        **dict(
            num_classes=10,
            seeds=5,
            largest_pixel=16,
            largest_loss=18.0,
            sampled={"given": 1_000, "scored": 2_000},
        ),
    )
    return server.make(forgetting, ["127.0.0.1", "[::1]"])


def call(application, body=b"", host="127.0.0.1", kind="application/json"):
    """Post a question as a server would; return the status and what is said."""
    headers = [(b"host", host.encode()), (b"content-type", kind.encode())]
    scope = dict(type="http", method="POST", path="/answer", headers=headers)
    scope |= dict(query_string=b"", http_version="1.1", scheme="http", root_path="")
    parts = [body[: len(body) // 2], body[len(body) // 2 :]]
    sent = []

    async def receive():
        return dict(type="http.request", body=parts.pop(0), more_body=bool(parts))

    async def send(message):
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode()


def test_the_server_answers(application):
    status, said = call(application, as_body(FINE))
    assert (status, json.loads(said)) == (200, {"classes": [3], "milliseconds": None})


def test_the_server_refuses(application):
    assert call(application, as_body(BAD["every class"]))[0] == 422
    assert "Leave at least one" in call(application, as_body(BAD["every class"]))[1]
    assert call(application, BAD["deep"])[0] == 422
    long = as_body(FINE | {"image": [0] * 10_000})
    assert len(long) > asking.MOST_BYTES and call(application, long)[0] == 413
    assert call(application, as_body(FINE), kind="text/plain")[0] == 415
    assert call(application, as_body(FINE), host="example.com")[0] == 400
    assert call(application, as_body(FINE), host="[::2]:8765")[0] == 400
    assert call(application, as_body(FINE), host="[::1]:8765")[0] == 200


@pytest.mark.parametrize(
    "options, lacking, message",
    [
        ((), "uvicorn", "pip install 'hyperforget-jax[app]', or '.[app]' in a clone."),
        (("--dataset", "mnist"), None, "pretrained.py --preset mnist"),
        (("--port", "70000"), None, "--port must lie in"),
    ],
)
def test_what_lacks_is_said(tmp_path, monkeypatch, capsys, options, lacking, message):
    pytest.importorskip("uvicorn")
    monkeypatch.setenv("HYPERFORGET_CACHE_DIR", str(tmp_path))
    if lacking:
        monkeypatch.setitem(sys.modules, lacking, None)
    assert main(["app", *options]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_port_that_is_taken_has_its_remedy(capsys):
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert main(["app", "--port", str(listening.getsockname()[1])]) == 2
    said = capsys.readouterr().err
    assert "is taken: --port 0 takes a free one." in said and said.count("\n") == 1


@pytest.fixture(scope="module")
def url():
    """Where the command says that its page is."""
    pytest.importorskip("uvicorn", reason="the extra app is not installed")
    code = "from hyperforget_jax.command import main; main(['app', '--port', '0'])"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline(), process.stdout.readline().strip()
            assert said[1].startswith("Open http://127.0.0.1:"), said
            yield said[1].removeprefix("Open ").removesuffix("; Ctrl-C stops.")
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    reason = "the extra test is not installed"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    with playwright.sync_playwright() as started:
        # As root there is no sandbox, and a container's shared memory is small.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        opened = started.chromium.launch(executable_path=chromium, args=options)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, url):
    """The page, answered once; it may say nothing, and fetch from nowhere else."""
    opened = browser.new_page(viewport={"width": 1280, "height": 800})
    said, fetched = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: fetched.append(request.url))
    opened.goto(url)
    settle(opened)
    yield opened
    opened.close()
    assert not said
    assert all(each.startswith((url, "data:")) for each in fetched)


def settle(page):
    page.wait_for_timeout(50)  # Until what was done has been asked.
    page.wait_for_selector("#answers[aria-busy=false]", timeout=60_000)


def predicted(page):
    """What the image is taken for, by each column's models."""
    rows = page.locator("#prediction tbody tr")
    marks = rows.evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('td')]"
        ".map(cell => cell.classList.contains('top')))"
    )
    columns = zip(*marks, strict=True)
    return [column.index(True) if True in column else None for column in columns]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dihyfo", "fiun", "pgu", "logit_mask"])
def test_a_class_that_is_off_is_predicted_no_more(page, method):
    assert predicted(page) == [3, 3, None]
    page.check(f"input[value={method}]")
    page.uncheck("input[name=class][value='3']")
    settle(page)
    original, after, retrained = predicted(page)
    assert original == 3 and after != 3 and retrained not in (3, None)
    after_row = page.locator("#accuracy tbody tr").nth(3).locator("td.after")
    assert float(after_row.inner_text().rstrip(" %")) < 5
    heads = page.locator("#verdicts .headline").all_inner_texts()
    assert heads[0] == "Not forgotten" and "orgotten" not in heads[1]
    page.check("input[name=class][value='3']")
    settle(page)
    assert predicted(page) == [3, 3, None]


@pytest.mark.slow
def test_the_loss_that_is_asked_for_decides(page):
    assert page.inner_text("#loss-asked") == "Switch a class off first."
    page.uncheck("input[name=class][value='3']")
    settle(page)
    assert predicted(page)[1] != 3
    page.focus("#loss")
    page.keyboard.press("Home")  # No loss at all.
    settle(page)
    assert predicted(page)[1] == 3
    page.click("#usual")
    settle(page)
    assert predicted(page)[1] != 3


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_drawing_stays_in_its_place_whatever_is_chosen(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    places = set()
    for step in (
        lambda: None,
        lambda: page.uncheck("input[name=class][value='3']"),
        lambda: page.check("input[value=fiun]"),
        lambda: page.check("input[value=pgu]"),
        lambda: page.check("input[value=logit_mask]"),
    ):
        step()
        settle(page)
        places.add(page.locator("#canvas").bounding_box()["y"])
    assert len(places) == 1


@pytest.mark.slow
def test_a_set_of_classes_is_retrained_on_the_spot(page):
    for label in (3, 5):
        page.uncheck(f"input[name=class][value='{label}']")
    settle(page)
    _, after, retrained = predicted(page)
    assert after not in (3, 5) and retrained not in (3, 5, None)


@pytest.mark.slow
def test_the_keyboard_is_enough(page):
    def tab_to(selector):
        for _ in range(40):
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {selector}.")

    tab_to("input[name=class][value='3']")
    page.keyboard.press("Space")
    settle(page)
    assert predicted(page)[1] != 3
    tab_to("input[name=method]")
    page.keyboard.press("ArrowRight")
    settle(page)
    assert "FIUn" in page.inner_text("#status")
    tab_to("#canvas")
    for _ in range(8):
        page.keyboard.press("ArrowUp")
    page.keyboard.down("Space")
    for _ in range(16):
        page.keyboard.press("ArrowDown")
    page.keyboard.up("Space")
    settle(page)
    assert predicted(page)[0] == 1  # A line.
    page.keyboard.press("Delete")
    settle(page)
    assert page.inner_text("#status").startswith("Nothing is drawn.")
    assert predicted(page) == [None, None, None]
    tab_to("#images button:nth-child(8)")
    page.keyboard.press("Enter")
    settle(page)
    assert predicted(page)[0] == 7


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(page, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.uncheck("input[name=class][value='3']")
    settle(page)
    found = axe.Axe().run(page).response["violations"]
    assert not [each for each in found if each["impact"] in ("serious", "critical")]
    across = "document.documentElement.scrollWidth"
    assert page.evaluate(across) <= width
    if width == 1280:
        assert page.evaluate(across.replace("Width", "Height")) <= 800


@pytest.mark.slow
def test_the_running_server_refuses_what_is_too_long(url):
    body = as_body(FINE | {"image": [0] * 100_000})
    headers = {"Content-Type": "application/json"}
    for given, status in ((body, 413), (b"{", 422)):
        request = urllib.request.Request(f"{url}answer", given, headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == status
        assert json.loads(refused.value.read())["error"]
