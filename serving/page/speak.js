// Transcribe: the microphone, and recordings that are chosen or dropped.

import { transcribe, words as wordsOf } from './api.js';
import { Microphone, RATE } from './microphone.js';
import { Part, Player, wav } from './player.js';
import { Session } from './realtime.js';
import { hint } from './words.js';

const AROUND = 0.3; // seconds of audio kept before and after an utterance
const KEPT = 120; // seconds that wait for the end of an utterance at most

const clock = (seconds) => (
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`
);

// What was recorded last, by its time in the session.
class Recent {
  #chunks = [];
  #begins = 0; // samples of the session before the first chunk
  #length = 0;

  add(chunk) {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    while (this.#length - this.#begins > KEPT * RATE) this.#begins += this.#chunks.shift().length;
  }

  // Where it really begins, in seconds, and the samples.
  cut(start, end) {
    const all = new Int16Array(this.#length - this.#begins);
    let at = 0;
    for (const chunk of this.#chunks) { all.set(chunk, at); at += chunk.length; }
    const from = Math.max(0, Math.round((start - AROUND) * RATE) - this.#begins);
    const to = Math.round((end + AROUND) * RATE) - this.#begins;
    return { begins: (from + this.#begins) / RATE, samples: all.slice(from, to) };
  }
}

export function setUpSpeaking({ transcripts, say, fail }) {
  const record = document.getElementById('record');
  const partial = document.getElementById('partial');
  const level = document.querySelector('#level i');
  let live = null;

  function show(on) {
    record.setAttribute('aria-pressed', on);
    level.parentElement.classList.toggle('on', on);
    document.getElementById('record-label').textContent = on ? 'Stop' : 'Start speaking';
    if (!on) { level.style.transform = 'scaleX(0)'; partial.textContent = ''; }
  }

  function announce(text) {
    const line = document.createElement('p');
    line.textContent = text;
    const place = document.getElementById('announced');
    place.append(line);
    while (place.children.length > 5) place.firstChild.remove();
  }

  function final({ text, words, requestId }, recent) {
    partial.textContent = '';
    announce(text);
    const found = wordsOf(words);
    const { begins, samples } = recent.cut(found[0].start, found.at(-1).end);
    transcripts.fill(transcripts.add(''), {
      about: `You, ${new Date().toLocaleTimeString()}`,
      text,
      words: found.map((word) => ({
        ...word, start: word.start - begins, end: word.end - begins,
      })),
      requestId,
      player: new Player(wav(samples, RATE)),
    });
  }

  async function start() {
    const recent = new Recent();
    const session = new Session({
      partial: (words) => hint(partial, wordsOf(words)),
      final: (said) => final(said, recent),
      speaking: () => say('Listening: you are heard.'),
      failed: (sentence) => { fail(sentence); stop(); },
    });
    const microphone = new Microphone();
    await session.connect();
    await microphone.open((chunk) => {
      recent.add(chunk);
      session.append(chunk);
      const loudest = chunk.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
      level.style.transform = `scaleX(${Math.sqrt(loudest / 32768)})`;
    });
    return { session, microphone };
  }

  async function stop() {
    if (!live) return;
    const { session, microphone } = live;
    live = null;
    say('Finishing the last words…');
    await microphone.close();
    await session.finish();
    show(false);
    say('Stopped.');
  }

  record.addEventListener('click', async () => {
    fail('');
    record.disabled = true;
    try {
      if (live) {
        await stop();
      } else {
        live = await start();
        show(true);
        say('Listening. Speak now.');
      }
    } catch (error) {
      show(false);
      fail(error.message);
    } finally {
      record.disabled = false;
    }
  });

  setUpFiles({ transcripts, say, fail, announce });
}

function setUpFiles({ transcripts, say, fail, announce }) {
  const input = document.getElementById('file');

  // What has been heard of a long recording, before there are words to play.
  function soFar(card, file) {
    const place = card.querySelector('.words');
    const heard = document.createElement('p');
    heard.className = 'so-far';
    place.append(heard);
    return (text, seconds) => {
      heard.textContent = text;
      card.querySelector('.about').textContent = `${file.name}, recognised to ${clock(seconds)}`;
    };
  }

  // Each utterance of a long recording is played and corrected by itself; the first one on top.
  function fillLong(card, file, answer) {
    card.remove();
    const player = new Player(file);
    const words = wordsOf(answer.words);
    for (const one of [...answer.utterances].reverse()) {
      transcripts.fill(transcripts.add(''), {
        about: `${file.name}, at ${clock(one.start)}`,
        text: one.text,
        words: words.filter((word) => word.start >= one.start && word.start < one.end),
        requestId: one.request_id,
        player: new Part(player, one.start, one.end),
      });
    }
    announce(`${file.name}: ${answer.utterances.length} utterances`);
  }

  async function take(file) {
    const card = transcripts.add(file.name);
    const bar = document.createElement('progress');
    bar.setAttribute('aria-label', `Sending ${file.name}`);
    bar.value = 0;
    card.querySelector('.words').append(bar);
    try {
      const answer = await transcribe(file, {
        onProgress: (share) => {
          if (share < 1) bar.value = share;
          else { bar.removeAttribute('value'); bar.setAttribute('aria-label', `Recognising ${file.name}`); }
        },
        onHeard: soFar(card, file),
      });
      if (answer.utterances) {
        fillLong(card, file, answer);
        return;
      }
      transcripts.fill(card, {
        about: `${file.name}, ${Number(answer.duration).toFixed(1)} s`,
        text: answer.text,
        words: wordsOf(answer.words),
        requestId: answer.request_id,
        player: new Player(file),
      });
      announce(`${file.name}: ${answer.text || 'no words'}`);
    } catch (error) {
      card.remove();
      fail(`${file.name}: ${error.message}`);
    }
  }

  async function takeAll(files) {
    fail('');
    say(`Transcribing ${files.length === 1 ? files[0].name : `${files.length} recordings`}…`);
    for (const file of files) await take(file); // one by one: the server is shared
    say('');
  }

  input.addEventListener('change', async () => {
    await takeAll([...input.files]);
    input.value = '';
  });
  let over = 0;
  const drag = (change) => {
    over = change && Math.max(0, over + change);
    document.body.classList.toggle('dropping', over > 0);
  };
  document.addEventListener('dragenter', () => drag(1));
  document.addEventListener('dragleave', () => drag(-1));
  document.addEventListener('dragover', (event) => event.preventDefault());
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    drag(0);
    takeAll([...event.dataTransfer.files]);
  });
}
