"""Live speech to text: many streams share each step of the recogniser.

>>> engine = Engine(Recogniser.load(Path("bundle"), precision="int8"), most_streams=200)
>>> stream = engine.open(print)
>>> stream.accept(samples)
>>> stream.finish()
Partial(utterance=0, text='transfer twenty', ...)
Final(utterance=0, transcript=Transcript(text='transfer twenty pounds', ...), ...)
Ended(error=None)
"""

from hearloop.errors import Overloaded
from hearloop.hotwords import Hotword
from hearloop.streaming.engine import Engine, LiveStream
from hearloop.streaming.events import Ended, Event, Final, Heard, Partial, SpeechStarted
from hearloop.streaming.long import LongTranscript, Segment, transcribe_long
from hearloop.streaming.options import Endpointing, StreamOptions

__all__ = [
    "Ended",
    "Endpointing",
    "Engine",
    "Event",
    "Final",
    "Heard",
    "Hotword",
    "LiveStream",
    "LongTranscript",
    "Overloaded",
    "Partial",
    "Segment",
    "SpeechStarted",
    "StreamOptions",
    "transcribe_long",
]
