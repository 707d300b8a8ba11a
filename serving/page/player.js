// Plays a recording or a part of it, and says where it is.

export class Player {
  #audio;
  #url;
  #end = Infinity;
  #frame = 0;

  constructor(blob) {
    this.#url = URL.createObjectURL(blob);
    this.#audio = new Audio(this.#url);
    this.#audio.preload = 'auto';
    this.onTime = () => {};
    this.#audio.addEventListener('pause', () => this.#rest());
  }

  // Seconds of the recording; resolves when the part begins to sound.
  async play(start = 0, end = Infinity) {
    this.#end = end;
    this.#audio.currentTime = start;
    await this.#audio.play();
    cancelAnimationFrame(this.#frame);
    this.#watch();
  }

  get playing() { return !this.#audio.paused; }

  stop() { this.#audio.pause(); }

  forget() {
    this.stop();
    URL.revokeObjectURL(this.#url);
  }

  #watch() {
    const at = this.#audio.currentTime;
    if (at >= this.#end) {
      this.stop();
    } else if (this.playing) {
      this.onTime(at);
      this.#frame = requestAnimationFrame(() => this.#watch());
    }
  }

  #rest() {
    cancelAnimationFrame(this.#frame);
    this.onTime(null);
  }
}

// A part of a recording that others play parts of too.
export class Part {
  constructor(player, start, end) {
    Object.assign(this, { player, start, end, onTime: () => {} });
  }

  play(start = this.start, end = this.end) {
    if (this.player.onTime !== this.onTime) this.player.onTime(null);
    this.player.onTime = this.onTime;
    return this.player.play(start, end);
  }

  get playing() { return this.player.playing && this.player.onTime === this.onTime; }

  stop() { this.player.stop(); }
}

// A WAV file of one channel of 16-bit samples.
export function wav(samples, rate) {
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, value) => [...value].forEach((c, i) => head.setUint8(at + i, c.charCodeAt(0)));
  text(0, 'RIFF'); head.setUint32(4, 36 + samples.byteLength, true); text(8, 'WAVEfmt ');
  head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true);
  head.setUint32(24, rate, true); head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true); head.setUint16(34, 16, true);
  text(36, 'data'); head.setUint32(40, samples.byteLength, true);
  return new Blob([head, samples], { type: 'audio/wav' });
}
