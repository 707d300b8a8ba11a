// One realtime transcription session: OpenAI's events over a WebSocket.

import { address, realtimeKey } from './api.js';
import { RATE } from './microphone.js';

const FINISH = 'finish';
const PATIENCE = 10000; // ms that the last words may take after the speaker has stopped

const base64 = (samples) => btoa(String.fromCharCode(...new Uint8Array(samples.buffer)));

export class Session {
  #socket;
  #finishing = false;
  #done = () => {};

  // listener: partial(words), final({text, words, requestId}), speaking(), failed(sentence);
  // words as the server writes them, in seconds of the session.
  constructor(listener) { this.listener = listener; }

  async connect() {
    const url = address('/openai/v1/realtime?intent=transcription');
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const key = await realtimeKey();
    this.#socket = new WebSocket(url, ['realtime', `openai-insecure-api-key.${key}`]);
    await new Promise((resolve, reject) => {
      this.#socket.onopen = resolve;
      this.#socket.onclose = () => reject(new Error(
        'The server takes no live speech at the moment; try again in a few seconds.'));
    });
    this.#socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    this.#socket.onclose = () => {
      this.#done();
      this.listener.failed('The connection was lost; what was said since is not transcribed.');
    };
    this.#send({
      type: 'session.update',
      session: {
        type: 'transcription',
        audio: {
          input: {
            format: { type: 'audio/pcm', rate: RATE },
            turn_detection: { type: 'server_vad' },
          },
        },
        include: ['hearloop.words'],
      },
    });
  }

  append(samples) {
    this.#send({ type: 'input_audio_buffer.append', audio: base64(samples) });
  }

  // Waits for the last words. A commit is answered in turn, and with an empty transcript when
  // nothing was left: so the answer to the second of two says that all has been said.
  async finish() {
    const done = new Promise((resolve) => { this.#done = resolve; });
    const late = new Promise((resolve) => { setTimeout(resolve, PATIENCE); });
    this.#finishing = true;
    for (let time = 0; time < 2; time += 1) {
      this.#send({ type: 'input_audio_buffer.commit', event_id: FINISH });
    }
    await Promise.race([done, late]);
    this.#socket.onclose = null;
    this.#socket.close();
  }

  #send(event) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(event));
  }

  #hear(event) {
    switch (event.type) {
      case 'input_audio_buffer.speech_started':
        this.listener.speaking();
        break;
      case 'conversation.item.input_audio_transcription.delta':
        this.listener.partial(event.words ?? []);
        break;
      case 'conversation.item.input_audio_transcription.completed':
        if (event.transcript) {
          const { transcript: text, words, request_id: requestId } = event;
          this.listener.final({ text, words, requestId });
        } else if (this.#finishing) {
          this.#done();
        }
        break;
      case 'error':
        if (event.error.event_id === FINISH) this.#done();
        else this.listener.failed(event.error.message);
        break;
      default:
    }
  }
}
