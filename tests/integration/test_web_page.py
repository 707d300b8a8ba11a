"""The web page in a real headless Chromium, with recorded speech as its microphone.

The server's routes run in this process between the real stores; only the recogniser is a small
one with random weights: it writes nonsense, and marks it with confidences, like any other.
"""

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
import soundfile
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from hearloop import composition
from hearloop.audio import decode, encode_flac
from hearloop.config import Settings
from hearloop.corpora.espeak import Voice, speak
from hearloop.features import SAMPLE_RATE
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from hearloop.storage.events import create_topics
from hearloop.storage.objects import S3Objects
from serving import feedback, review
from serving.access import Gate
from serving.live import Live
from serving.loading import Loader
from serving.long_files import LongFiles
from serving.phrases import Phrases
from serving.request_log import RequestLog
from serving.server import Doors, mount, weighing
from serving.settings import Grant, ServerSettings
from serving.traffic import TrafficControl
from serving.transcriber import Transcriber
from serving.versions import Versions
from tests.bundles import write_random_bundle
from tests.unit.serving.assembled import in_blocks

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

TOKEN = "a-token-of-the-test"

SAID = ["Transfer twenty pounds to Anna.", "Pay the gas bill on Monday please."]

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with"),
]

MOST_MS = 30_000
"""Patience for anything on the page: other work may run beside the test."""

QUEUE_SECONDS = 120.0
"""Patience for the event log, whose group the queue's reader has to join first."""


@dataclass
class Served:
    url: str
    settings: Settings
    folder: Path

    def corrections(self) -> list[dict[str, str]]:
        answer = httpx.get(
            f"{self.url}/feedback/v1/corrections", headers={"authorization": f"Bearer {TOKEN}"}
        )
        found: list[dict[str, str]] = answer.json()["corrections"]
        return found

    @property
    def speech(self) -> Path:
        return self.folder / "speech.wav"


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The application on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def serving(settings: Settings, recogniser: Recogniser) -> Iterator[str]:
    """The routes over the stores of the settings, for whoever has the token."""
    everything = Grant.model_validate(
        {"tenant": "shop", "roles": ["transcribe", "correct", "review"]}
    )
    own = ServerSettings(_env_file=None, tokens={TOKEN: everything})  # type: ignore[call-arg]
    versions, gate, app = Versions(), Gate(own), FastAPI()
    log = RequestLog(settings, composition.objects(settings), composition.events(settings))
    live = Live(versions, log, most_streams=4)
    store = composition.traffic_store(settings)
    control = TrafficControl(
        versions, Loader(lambda: composition.registry(settings), settings.cache, "fp32"), store
    )
    weigh = weighing(versions)
    phrases = Phrases(own.tenant)
    doors = Doors(
        versions=versions,
        control=control,
        transcriber=Transcriber(versions, log, 2, decode, phrases),
        long_files=LongFiles(versions, log, in_blocks, phrases),
        live=live,
        phrases=phrases,
        desk=feedback.desk(settings, weigh),
        learn=feedback.learning(None),
        gate=gate,
    )
    mount(app, settings, doors)
    versions.swap(Traffic(stable="1"), {"1": recogniser})
    with ExitStack() as stack:
        stack.callback(log.close, 10.0)
        stack.enter_context(review.intake(settings, review.queue(settings, weigh)))
        yield stack.enter_context(listening(app))


def write_speech(path: Path) -> None:
    """Two sentences, each with a pause before and after it."""
    voice = Voice(accent="en-us", variant="m3", rate=150, pitch=45, pitch_range=50)
    pause = np.zeros(SAMPLE_RATE, np.float32)
    parts = [part for sentence in speak(voice, SAID) for part in (pause, 0.6 * sentence, pause)]
    soundfile.write(path, np.concatenate(parts), SAMPLE_RATE, subtype="PCM_16")


@pytest.fixture(scope="module")
def served(
    broker: Settings, object_store: S3Objects, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    write_speech(folder / "speech.wav")
    topics = {"transcriptions_topic": f"page-{uuid4().hex[:8]}"}
    settings = broker.model_copy(
        update={
            "database_url": f"sqlite:///{folder}/hearloop.db",
            "cache": folder / "cache",
            "kafka": broker.kafka.model_copy(update=topics),
        }
    )
    create_topics(settings)
    recogniser = Recogniser.load(write_random_bundle(folder / "bundle", seed=1))
    with serving(settings, recogniser) as url:
        yield Served(url, settings, folder)


@pytest.fixture(scope="module")
def browser(served: Served) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={served.speech}",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The page of somebody who has a token, and has said their name."""
    context = opened(browser, served)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if complaint(line) else None)
    page.set_default_timeout(MOST_MS)
    page.goto(f"{served.url}/page/")
    yield page
    context.close()
    assert not errors


def complaint(line: ConsoleMessage) -> bool:
    """Whether the browser found a fault in the page; it notes refusals of the server as well."""
    return line.type == "error" and not line.text.startswith("Failed to load resource")


def opened(
    browser: Browser, served: Served, name: str = "ada", **options: object
) -> BrowserContext:
    context = browser.new_context(permissions=["microphone"], **options)  # type: ignore[arg-type]
    context.add_init_script(
        f"localStorage.setItem('hearloop.name', {json.dumps(name)});"
        f"sessionStorage.setItem('hearloop.token', {json.dumps(TOKEN)});"
    )
    return context


def send(page: Page, path: Path) -> None:
    page.locator("#file").set_input_files(path)
    expect(page.locator("#transcripts .play")).to_be_visible(timeout=MOST_MS)


def test_words_appear_while_somebody_speaks_and_stay_when_they_stop(page: Page) -> None:
    page.get_by_role("button", name="Start speaking").press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#partial .word").first).to_be_visible(timeout=MOST_MS)
    expect(page.locator("#transcripts li")).not_to_have_count(0, timeout=MOST_MS)
    page.get_by_role("button", name="Stop").press("Enter")
    expect(page.locator("#status")).to_have_text("Stopped.", timeout=MOST_MS)
    expect(page.locator("#trouble")).to_be_empty()
    said = page.locator("#transcripts li").last
    word = said.locator(".word").first
    assert "% sure" in str(word.get_attribute("title"))
    text = " ".join(said.locator(".word").all_inner_texts())
    assert text in page.locator("#announced").inner_text()


def test_whoever_has_no_token_is_asked_for_one(browser: Browser, served: Served) -> None:
    context = browser.new_context(permissions=["microphone"])
    page = context.new_page()
    page.goto(f"{served.url}/page/")
    page.get_by_role("button", name="Start speaking").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("token", timeout=MOST_MS)
    expect(page.locator("#token")).to_be_focused()
    panel, why = page.locator("#you-form").bounding_box(), page.get_by_role("alert").bounding_box()
    assert panel
    assert why
    assert panel["y"] >= why["y"] + why["height"]  # what is asked for does not hide why
    page.locator("#token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Start speaking").press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_visible(timeout=MOST_MS)
    context.close()


def test_a_file_becomes_words_that_sound_when_they_are_clicked(page: Page, served: Served) -> None:
    send(page, served.speech)
    words = page.locator("#transcripts .word")
    assert words.count() > 1
    page.evaluate(
        "() => { window.heard = []; const play = HTMLMediaElement.prototype.play;"
        "HTMLMediaElement.prototype.play = function () {"
        " window.heard.push(this.currentTime); return play.call(this); } }"
    )
    words.last.click()
    page.wait_for_function("() => window.heard.length === 1")
    began = float(page.evaluate("() => window.heard[0]"))
    assert 0.0 < began < len(SAID) * 5.0
    expect(page.locator("#transcripts .word.now").first).to_be_visible(timeout=MOST_MS)


def test_a_long_file_becomes_utterances_each_of_which_can_be_corrected(
    page: Page, served: Served
) -> None:
    speech, rate = soundfile.read(served.speech, dtype="float32")
    path = served.folder / "long.flac"
    soundfile.write(path, np.tile(speech, 1 + 70 * rate // len(speech)), rate)
    page.locator("#file").set_input_files(path)
    cards = page.locator("#transcripts li")
    expect(cards.nth(10)).to_be_visible(timeout=MOST_MS)
    expect(cards.first.locator(".about")).to_contain_text("long.flac, at 0:0")
    cards.nth(2).locator(".word").last.click()
    expect(cards.nth(2).locator(".word.now").first).to_be_visible(timeout=MOST_MS)
    cards.nth(2).locator(".correct").click()
    page.keyboard.insert_text("pay the gas bill ")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("kept", timeout=MOST_MS)


def test_a_dropped_file_is_transcribed(page: Page, served: Served) -> None:
    data = page.evaluate_handle(
        "bytes => { const moved = new DataTransfer();"
        "moved.items.add(new File([new Uint8Array(bytes)], 'dropped.wav'));"
        "return moved; }",
        list(served.speech.read_bytes()),
    )
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    expect(page.locator("#transcripts .about")).to_contain_text("dropped.wav", timeout=MOST_MS)
    expect(page.locator("#transcripts .play")).to_be_visible(timeout=MOST_MS)


def test_what_cannot_be_read_is_said_in_the_servers_sentence(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF, but no sound")
    page.locator("#file").set_input_files(broken)
    expect(page.get_by_role("alert")).to_contain_text("broken.wav: ", timeout=MOST_MS)
    expect(page.locator("#transcripts li")).to_have_count(0)


def test_by_keyboard_alone_a_word_is_played_and_the_transcript_corrected(
    page: Page, served: Served
) -> None:
    send(page, served.speech)
    first = page.locator("#transcripts .word").first
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#transcripts .word").nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(page.locator("#transcripts .word").last).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#transcripts .play")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    area = page.locator("#transcripts textarea")
    expect(area).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#transcripts .correct")).to_be_focused()
    page.keyboard.press("Enter")
    area.fill("transfer twenty pounds to anna")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("status")).to_have_text(
        "Thank you: the correction is kept.", timeout=MOST_MS
    )
    kept = served.corrections()[-1]
    assert (kept["text"], kept["contributor"]) == ("transfer twenty pounds to anna", "ada")


def test_the_queue_is_worked_through_by_keyboard(browser: Browser, served: Served) -> None:
    answer_two(served)
    context = opened(browser, served, name="bob")
    page = context.new_page()
    page.set_default_timeout(MOST_MS)
    page.goto(f"{served.url}/page/")
    expect(page.locator("#waiting")).to_be_visible(timeout=MOST_MS)
    page.get_by_role("link", name="Review").press("Enter")
    area = page.locator("#review-text")
    expect(area).to_be_focused(timeout=MOST_MS)
    expect(page.locator("#review-why")).to_contain_text(re.compile("recogniser learns|[Bb]y lot"))
    expect(page.locator("#review-words .word").first).to_be_visible(timeout=MOST_MS)
    before = int(page.locator("#waiting").inner_text())
    area.fill("pay the gas bill on monday please")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#waiting")).to_have_text(str(before - 1), timeout=MOST_MS)
    expect(area).to_be_focused()
    page.keyboard.press("Control+.")
    expect(page.get_by_role("status")).to_have_text("Left to others.", timeout=MOST_MS)
    assert served.corrections()[-1]["contributor"] == "bob"
    context.close()


def answer_two(served: Served) -> None:
    """Two more answered utterances, in the queue."""
    voice = Voice(accent="en-gb", variant="f2", rate=150, pitch=50, pitch_range=50)
    headers = {"authorization": f"Bearer {TOKEN}"}
    for samples in speak(voice, SAID):
        httpx.post(
            f"{served.url}/openai/v1/audio/transcriptions",
            files={"file": ("one.flac", encode_flac(samples))},
            headers=headers,
            timeout=30,
        ).raise_for_status()
    deadline = time.monotonic() + QUEUE_SECONDS
    while True:
        answer = httpx.get(
            f"{served.url}/feedback/v1/queue?contributor=bob", headers=headers, timeout=30
        ).json()
        if answer["waiting"] >= 2:
            return
        assert time.monotonic() < deadline, f"{answer['waiting']} of 2 answers are in the queue"
        time.sleep(0.1)


@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_is_cut_off_at_the_side(browser: Browser, served: Served, width: int) -> None:
    context = opened(browser, served, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(f"{served.url}/page/")
    send(page, served.speech)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


FINGER = 44
"""CSS pixels that a finger hits for sure: WCAG 2.2, 2.5.5."""


def test_all_that_is_tapped_is_as_large_as_a_finger(browser: Browser, served: Served) -> None:
    phone = {"width": 390, "height": 844}
    context = opened(browser, served, viewport=phone, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{served.url}/page/")
    send(page, served.speech)
    page.locator("#transcripts .correct").click()
    page.locator("#you summary").click()
    small = page.evaluate(
        "least => [...document.querySelectorAll('nav a, button, summary, label.file, textarea,"
        " input:not([type=file])')].filter(one => { const box = one.getBoundingClientRect();"
        " return box.width && Math.min(box.width, box.height) < least - .1; })"
        ".map(one => one.outerHTML)",
        FINGER,
    )
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth") <= phone["width"]
    context.close()


def test_a_screen_reader_finds_names_regions_and_contrast(page: Page) -> None:
    tree = page.locator("body").aria_snapshot()
    for name in ("navigation", "main", 'button "Start speaking"', 'heading "Hearloop"', "status"):
        assert name in tree
    nameless = page.evaluate(
        "() => [...document.querySelectorAll('button, input, textarea, a')].filter(one =>"
        " !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)"
        ").map(one => one.outerHTML)"
    )
    assert nameless == []
    assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser: Browser, served: Served, scheme: str) -> None:
    """WCAG 2.2 AA: 4.5 to 1, of every colour of text on both backgrounds; 3 to 1 of edges."""
    context = opened(browser, served, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{served.url}/page/")
    colours = page.evaluate(
        "() => Object.fromEntries(['paper','card','ink','quiet','deep','on-deep','warn','now',"
        "'on-now','edge'].map(name => [name, getComputedStyle(document.documentElement)"
        ".getPropertyValue('--' + name).trim()]))"
    )
    context.close()
    pairs = [(text, back) for text in ("ink", "quiet", "warn") for back in ("paper", "card")]
    for text, back in [*pairs, ("on-deep", "deep"), ("on-now", "now"), ("paper", "warn")]:
        assert contrast(colours[text], colours[back]) >= 4.5, (text, back)
    for back in ("paper", "card"):
        assert contrast(colours["edge"], colours[back]) >= 3.0, back


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
