"""The page in a real browser: it draws what is in the view, as text, and follows a source."""

import json
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sigma_jax.runtime import conversation_page

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
# Each would run, or leave its element, if it were taken for HTML or for a script.
HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<!--<script>",
    "${document.title='owned'}",
    "'\"`\\\u2028\u2029\0\ud7ff & &lt;b&gt;",
)


def turn(number: int, **other) -> dict:
    """A turn of a calibrated conversation, as a view has it."""
    return {
        "number": number,
        "user": f"question {number}",
        "reply": f"answer {number}",
        "failure": None,
        "flags": [],
        "retry_of": None,
        "phase": "STABLE",
        "stability": 0.75,
        "drift_index": 0.4,
        "alarm": False,
        "missing": False,
        "contrast": [0.5, 1.0],
        "departure": [10.0, 12.0],
        "constraints": [1.0],
        "violated": [],
        "drafted": [],
        "sent_tokens": 1000 + number,
        "alarms": [],
        "hits": [],
        "plan": {"level": "NONE", "applied": True, "reasons": [], "reminder": ""},
    } | other


def view(*turns: dict, **other) -> dict:
    return {
        "conversation": "c",
        "identity": "Tally",
        "model": "m",
        "encoder": "e",
        "channels": ["style", "content"],
        "watched": {
            "constraints": ["calm"],
            "sizes": [14, 24],
            "limits": {"contrast": [5.0, 4.0], "departure": [40.0, 60.0], "constraints": [3.0]},
        },
        "turns": list(turns),
        "facts": {"current": [], "superseded": []},
        "motifs": {"user": [], "assistant": []},
        "unfinished": [],
        "totals": {
            "turns": len(turns),
            "failures": 0,
            "regenerated": 0,
            "alarms": sum(each["alarm"] for each in turns),
            "sent_tokens": sum(each["sent_tokens"] for each in turns),
        },
    } | other


class Elements(HTMLParser):
    """The elements of a document, each with its tag, its attributes and the text in it."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[dict] = []
        self._open: list[dict] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.found.append(element)
        if tag not in ("meta", "img"):
            self._open.append(element)

    def handle_endtag(self, tag):
        while self._open and self._open.pop()["tag"] != tag:
            pass

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def of(self, name: str) -> list[dict]:
        """Those with this tag or this class."""
        return [e for e in self.found if name == e["tag"] or name in e.get("class", "").split()]


def drawn(address: str, *options: str) -> Elements:
    """The page after its script has run."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1120,900"]
    shown = subprocess.run(
        [*command, *options, "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return Elements(shown.stdout)


def page_of(html: str, path: Path) -> Elements:
    path.write_text(html, encoding="utf-8")
    return drawn(path.as_uri())


@in_a_browser
def test_a_conversation_is_drawn(tmp_path) -> None:
    turns = [turn(number) for number in range(1, 61)]
    turns[40] |= {"alarm": True, "alarms": ["style contrast"], "contrast": [6.0, 1.0]}
    turns[41] |= {"phase": "RECOVERY", "violated": [], "drafted": ["calm"]}
    turns[59] |= {
        "phase": "RECOVERY",
        "violated": ["calm"],
        "drafted": ["calm"],
        "plan": {
            "level": "REMIND",
            "applied": True,
            "reasons": ["broken lately: calm"],
            "reminder": "No exclamation marks.",
        },
        "hits": [{"turn": 3, "score": 1.0, "text": "The database is called Heron."}],
    }
    fact = {"key": "database name", "turn": 2, "text": "It is Kestrel.", "value": "Kestrel"}
    was = {"turn": 1, "value": "Heron", "valid_to": 2, "ending": "corrected"}
    facts = {"current": [fact | {"ending": None}], "superseded": [fact | was]}
    page = page_of(
        conversation_page(view(*turns, facts=facts, unfinished=[{"number": 61, "user": "Well?"}])),
        tmp_path / "page.html",
    )
    tiles = {e["text"] for e in page.of("tile")}
    assert {"RECOVERYphase now", "60turns", "61,830tokens sent", "1turns in alarm"} <= tiles
    cards = page.of("turn")
    assert [card["data-number"] for card in cards] == [str(n) for n in range(60, 40, -1)]
    last = cards[0]["text"]
    for said in ("question 60", "answer 60", "REMIND, because: broken lately: calm"):
        assert said in last
    for said in ("No exclamation marks.", "turn 3: The database is called Heron."):
        assert said in last
    assert "Broken in the reply: calm" in last
    assert "alarm: style contrast" in cards[-1]["text"]
    labels = [e["text"] for e in page.of("text")]
    for label in ("phase", "correction", "turn", "limit", "of the limit", "style", "content"):
        assert label in labels, label
    assert "calm" in labels
    # Six lines: two contrasts, two departures, the worst constraint, stability; each of 60 points.
    lines = [e["d"] for e in page.of("path") if e.get("fill") == "none"]
    assert [len(re.findall("[ML]", line)) for line in lines] == [60] * 6
    assert len(page.of("alarms")) == 1  # in the one panel that alarms
    dots = [e["fill"] for e in page.of("circle")]
    assert dots == ["#fff", "#1a1a1a"]  # asked for again, and in the reply
    rows = [e["text"] for e in page.of("tr")]
    assert rows[1:] == [
        "database nameKestrelturn 2It is Kestrel.",
        "Heronturns 1 to 2, correctedIt is Kestrel.",
    ]
    assert "Turn 61 was asked and has no reply yet: Well?" in page.of("note")[0]["text"]


@in_a_browser
def test_what_users_and_models_say_is_text(tmp_path) -> None:
    hostile = [
        turn(
            place + 1,
            user=said,
            reply=said,
            flags=[said],
            alarms=[said],
            alarm=True,
            phase="STABLE",
            hits=[{"turn": 1, "score": 1.0, "text": said}],
            plan={"level": "REMIND", "applied": True, "reasons": [said], "reminder": said},
        )
        for place, said in enumerate(HOSTILE)
    ]
    fact = {"key": HOSTILE[1], "turn": 1, "text": HOSTILE[0], "value": HOSTILE[1], "ending": None}
    html = conversation_page(
        view(
            *hostile,
            identity=HOSTILE[0],
            conversation=HOSTILE[1],
            facts={"current": [fact], "superseded": []},
        )
    )
    page = page_of(html, tmp_path / "page.html")
    (title,) = page.of("title")
    assert title["text"] == f"{HOSTILE[0]}, turn 5"  # what the page itself writes there
    assert not page.of("img")
    assert len(page.of("script")) == 2
    said = [card["text"] for card in page.of("turn")]
    for place, words in enumerate(reversed(HOSTILE)):
        assert said[place].count(words.replace("\0", "�")) + said[place].count(words) >= 4, words
    assert page.of("tr")[1]["text"] == f"{HOSTILE[1]}{HOSTILE[1]}turn 1{HOSTILE[0]}"


@in_a_browser
def test_a_page_follows_its_source_and_says_when_that_is_gone(tmp_path) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/page":
                body = conversation_page(view(turn(1)), source="/view")
            elif len(asked) < 3:
                asked.append(self.path)
                body = json.dumps(view(*(turn(n) for n in range(1, len(asked) + 2))))
            else:
                return self.send_error(503)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/page"
            page = drawn(address, "--virtual-time-budget=9000")
        finally:
            server.shutdown()
    assert asked == ["/view"] * 3
    assert [card["data-number"] for card in page.of("turn")] == ["4", "3", "2", "1"]
    assert "does not answer" in page.of("note")[0]["text"]


@in_a_browser
def test_a_conversation_without_calibration_says_so(tmp_path) -> None:
    watched = {
        "constraints": [],
        "sizes": [0, 0],
        "limits": {"contrast": [None, None], "departure": [1.0, 1.0], "constraints": []},
    }
    alone = turn(1, phase="FORMING", contrast=[0.0, 0.0], departure=[0.0, 0.0], constraints=[])
    page = page_of(conversation_page(view(alone, watched=watched)), tmp_path / "page.html")
    assert "has no calibration" in page.of("note")[0]["text"]
    assert len([e for e in page.of("path") if e.get("fill") == "none"]) == 1  # stability alone


def test_a_page_asks_nobody_for_anything() -> None:
    html = conversation_page(view(turn(1, reply="</script> \u2028 & >")))
    elements = Elements(html)
    assert not [e for e in elements.found if {"src", "href"} & set(e)]
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    (data,) = (e["text"] for e in elements.of("script") if e.get("id") == "data")
    assert not set("<>&\u2028") & set(data)
    assert json.loads(data)["view"]["turns"][0]["reply"] == "</script> \u2028 & >"
    with pytest.raises(ValueError, match="Out of range"):
        conversation_page(view(turn(1, stability=float("nan"))))
