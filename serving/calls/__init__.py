"""Live audio of calls through Kafka: audio in by one topic, transcripts out by another.

A message of the audio topic is a piece of a call:

| part | what |
|---|---|
| key | the call, `tenant/call` where it is a tenant's: each 1 to 120 letters, digits and `. _ @ + -` |
| value | audio, as long or short as you like: 20 ms to some seconds |
| header `format` | `audio/pcm;rate=16000` (8, 16, 24 or 48 kHz; 16 bit, the default), `audio/pcmu`, `audio/pcma` |
| header `sequence` | number of the piece in its call, from 0; a piece that comes twice is dropped (optional) |
| header `last` | `1` on the last piece, which may be empty |
| header `speaker` | who speaks, where that is known: letters as of a call (optional, of the first piece) |
| header `consent` | whether the recording may be kept, `yes` or not; absent: as the tenant's contract says |
| header `traceparent`, `tracestate` | the trace that the call belongs to (optional, of the first piece) |

A message of the transcripts topic is JSON with the same key: `kind` is `final` for an utterance
(`text`, `words` with times and confidences, `start_s`, `end_s`) or `ended` for the end of a call,
after its last piece or a minute without one. `id` is the same however often the audio is read.
Its headers continue the trace.

Nobody is asked for a token here: who may write to the audio topic may speak for every tenant, so
the broker's access rules have to say who may.

`python -m serving.calls` reads as one member of a consumer group: start more of them, up to one a
partition. What was read is committed when the call that it belongs to has ended, so after a crash
another member hears a call from its beginning, sees in the transcripts what has been published,
and goes on from there: nothing is lost, and nothing comes twice.
"""  # noqa: E501 (a table)
