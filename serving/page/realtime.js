// One realtime transcription session: OpenAI's events over a WebSocket.

import { address, realtimeKey } from './api.js';
import { RATE } from './microphone.js';

const PATIENCE = 10000; // ms that the last words may take after the speaker has stopped

const base64 = (samples) => btoa(String.fromCharCode(...new Uint8Array(samples.buffer)));

export class Session {
  #socket;
  #open = new Map();
  #idle = () => {};

  // listener: partial(text), final({id, text, words, start, end}), speaking(), failed(sentence)
  constructor(listener) { this.listener = listener; }

  async connect() {
    const url = address('/openai/v1/realtime?intent=transcription');
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const key = await realtimeKey();
    this.#socket = key
      ? new WebSocket(url, ['realtime', `openai-insecure-api-key.${key}`])
      : new WebSocket(url);
    await new Promise((resolve, reject) => {
      this.#socket.onopen = resolve;
      this.#socket.onclose = () => reject(new Error(
        'The server takes no live speech at the moment; try again in a few seconds.'));
    });
    this.#socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    this.#socket.onclose = () => {
      this.#idle();
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
        include: ['item.input_audio_transcription.logprobs'],
      },
    });
  }

  append(samples) {
    this.#send({ type: 'input_audio_buffer.append', audio: base64(samples) });
  }

  // Waits for the words that are still under way.
  async finish() {
    this.#send({ type: 'input_audio_buffer.commit' });
    const idle = new Promise((done) => { this.#idle = done; });
    const late = new Promise((done) => { setTimeout(done, PATIENCE); });
    await Promise.race([idle, late]);
    this.#socket.onclose = null;
    this.#socket.close();
  }

  #send(event) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(event));
  }

  #item(id) {
    if (!this.#open.has(id)) this.#open.set(id, { id, text: '' });
    return this.#open.get(id);
  }

  #hear(event) {
    const item = event.item_id && this.#item(event.item_id);
    switch (event.type) {
      case 'input_audio_buffer.speech_started':
        item.start = event.audio_start_ms / 1000;
        this.listener.speaking();
        break;
      case 'input_audio_buffer.speech_stopped':
        item.end = event.audio_end_ms / 1000;
        break;
      case 'conversation.item.input_audio_transcription.delta':
        item.text += event.delta;
        this.listener.partial(item.text);
        break;
      case 'conversation.item.input_audio_transcription.completed':
        this.#open.delete(item.id);
        this.listener.final({ ...item, text: event.transcript, words: event.words, event });
        if (!this.#open.size) this.#idle();
        break;
      case 'conversation.item.input_audio_transcription.failed':
        this.#open.delete(item.id);
        this.listener.failed(event.error.message);
        break;
      case 'error':
        if (event.error.code === 'input_audio_buffer_commit_empty') this.#idle();
        else this.listener.failed(event.error.message);
        break;
      default:
    }
  }
}
