// The list of what was transcribed: words to play, and a form to correct them.

import { correct, you } from './api.js';
import { showWords } from './words.js';

const LONGEST = 2000; // characters of a correction that the server takes

export class Transcripts {
  constructor(list, template, { say, fail, askName }) {
    Object.assign(this, { list, template, say, fail, askName });
  }

  // A card that may be filled later: a file shows its progress first.
  add(about) {
    const card = this.template.content.firstElementChild.cloneNode(true);
    card.querySelector('.about').textContent = about;
    card.querySelector('.controls').hidden = true;
    this.list.prepend(card);
    document.getElementById('empty').hidden = true;
    return card;
  }

  fill(card, { about, text, words, requestId, player }) {
    card.querySelector('.about').textContent = about;
    const place = card.querySelector('.words');
    if (text) showWords(place, words, player);
    else place.textContent = '(no words)';
    card.querySelector('.controls').hidden = false;
    const play = card.querySelector('.play');
    play.setAttribute('aria-label', `Play: ${text.slice(0, 60)}`);
    play.addEventListener('click', () => (player.playing ? player.stop() : player.play()));
    this.#correctable(card, text, requestId);
  }

  #correctable(card, text, requestId) {
    const form = card.querySelector('.correction');
    const area = form.querySelector('textarea');
    const open = card.querySelector('.correct');
    open.hidden = !requestId || text.length > LONGEST;
    open.setAttribute('aria-label', `Correct: ${text.slice(0, 60)}`);
    area.value = text;
    const show = (editing) => {
      form.hidden = !editing;
      open.hidden = editing;
      (editing ? area : open).focus();
    };
    open.addEventListener('click', () => { if (this.askName()) show(true); });
    form.querySelector('.cancel').addEventListener('click', () => show(false));
    form.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') show(false);
      if (event.key === 'Enter' && event.ctrlKey) form.requestSubmit();
    });
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      await this.#send(card, requestId, area.value);
    });
  }

  async #send(card, requestId, text) {
    const send = card.querySelector('.correction .primary');
    send.disabled = true;
    try {
      const kept = await correct(requestId, text);
      card.querySelector('.correction').hidden = true;
      card.querySelector('.about').textContent = `Corrected by ${you.name}`;
      const place = card.querySelector('.words');
      place.removeAttribute('role');
      place.textContent = kept.text;
      card.querySelector('.play').focus();
      this.say('Thank you: the correction is kept.');
    } catch (error) {
      this.fail(error.message);
      send.disabled = false;
    }
  }
}
