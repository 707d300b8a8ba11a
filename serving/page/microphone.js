// The microphone as a stream of 16-bit chunks at 24 kHz, the rate of the realtime protocol.

export const RATE = 24000;

export class Microphone {
  #context;
  #node;
  #stream;

  // onChunk gets an Int16Array of 50 ms. Throws a sentence for people.
  async open(onChunk) {
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false },
      });
    } catch (error) {
      throw new Error(error.name === 'NotAllowedError'
        ? 'The browser may not use the microphone; allow it in the address bar and try again.'
        : `No microphone can be used (${error.message}).`);
    }
    const source = await this.#connect();
    await this.#context.audioWorklet.addModule(new URL('microphone-worklet.js', import.meta.url));
    this.#node = new AudioWorkletNode(this.#context, 'microphone', { numberOfOutputs: 0 });
    this.#node.port.onmessage = ({ data }) => onChunk(data);
    source.connect(this.#node);
  }

  // Some browsers join no microphone to a context of another rate: then the worklet converts.
  async #connect() {
    this.#context = new AudioContext({ sampleRate: RATE });
    try {
      return this.#context.createMediaStreamSource(this.#stream);
    } catch {
      await this.#context.close();
      this.#context = new AudioContext();
      return this.#context.createMediaStreamSource(this.#stream);
    }
  }

  // Gives the chunk that was begun, then lets the microphone go.
  async close() {
    const last = new Promise((done) => {
      const give = this.#node.port.onmessage;
      this.#node.port.onmessage = (event) => { give(event); done(); };
    });
    this.#node.port.postMessage('end');
    await last;
    this.#stream.getTracks().forEach((track) => track.stop());
    await this.#context.close();
  }
}
