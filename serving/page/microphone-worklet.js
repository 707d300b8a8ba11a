// In the audio thread: samples of the microphone as 16-bit PCM at 24 kHz, 50 ms at a time.

const TARGET = 24000;
const CHUNK = TARGET / 20;

class Microphone extends AudioWorkletProcessor {
  #chunk = new Int16Array(CHUNK);
  #filled = 0;
  #sum = 0;
  #weight = 0;
  #step = sampleRate / TARGET;

  constructor() {
    super();
    this.port.onmessage = () => this.#send(); // the speaker has stopped: what is left
  }

  process([input]) {
    if (input[0]) for (const sample of input[0]) this.#take(sample);
    return true;
  }

  // The mean over each output sample's span; at 24 kHz, which we ask browsers for, the sample.
  #take(sample) {
    let left = 1;
    while (this.#weight + left >= this.#step - 1e-9) {
      const part = this.#step - this.#weight;
      this.#put((this.#sum + part * sample) / this.#step);
      left -= part;
      this.#sum = 0;
      this.#weight = 0;
    }
    this.#sum += left * sample;
    this.#weight += left;
  }

  #put(value) {
    this.#chunk[this.#filled++] = Math.round(32767 * Math.max(-1, Math.min(1, value)));
    if (this.#filled === CHUNK) this.#send();
  }

  #send() {
    const chunk = this.#chunk.slice(0, this.#filled);
    this.#filled = 0;
    this.port.postMessage(chunk, [chunk.buffer]);
  }
}

registerProcessor('microphone', Microphone);
