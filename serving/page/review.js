// The review queue: one utterance at a time, by keyboard alone if you like.

import { claim, correct, queue, recording, skip, transcribe, words as wordsOf } from './api.js';
import { Player } from './player.js';
import { showWords } from './words.js';

const AHEAD = 5; // places looked at: some may have been claimed by others meanwhile

const WHY = {
  audited: 'Drawn by lot, so that we know how good the transcripts are',
  doubtful: 'The recogniser learns most from this one',
};

export function setUpReview({ say, fail, askName }) {
  const byId = (name) => document.getElementById(`review-${name}`);
  const form = byId('form');
  const text = byId('text');
  let current = null;

  function count(waiting) {
    const place = document.getElementById('waiting');
    place.hidden = !waiting;
    place.textContent = waiting;
    place.setAttribute('aria-label', `${waiting} waiting`);
  }

  function rest() {
    current?.player.forget();
    current = null;
    form.hidden = true;
  }

  async function refresh() {
    const found = await queue(AHEAD);
    count(found.waiting);
    return found;
  }

  // The first of the queue that nobody else has claimed since.
  async function firstFree({ utterances }) {
    for (const one of utterances) {
      try {
        await claim(one.request_id);
        return one;
      } catch (error) {
        if (error.status !== 404 && error.status !== 409) throw error;
      }
    }
    return null;
  }

  async function next() {
    rest();
    const found = await refresh();
    const one = await firstFree(found);
    byId('empty').hidden = one !== null;
    if (!one) { byId('empty').focus(); return; }
    const blob = await recording(one.request_id);
    const player = new Player(blob);
    current = { ...one, player };
    show(one, blob, player);
  }

  function show(one, blob, player) {
    const why = byId('why');
    const badge = document.createElement('span');
    badge.className = 'badge';
    badge.textContent = one.reason === 'audited' ? 'by lot' : `doubt ${Math.round(100 * one.doubt)} %`;
    why.replaceChildren(badge, `${WHY[one.reason]}. ${one.audio_seconds.toFixed(1)} s.`);
    text.value = one.text;
    byId('words').replaceChildren();
    form.hidden = false;
    text.focus();
    player.play().catch(() => say('Press Ctrl+Space to hear it.'));
    hear(one, blob, player);
  }

  // Times of the words: the recogniser listens once more, and nothing of it is kept.
  async function hear(one, blob, player) {
    try {
      const file = new File([blob], 'utterance.flac', { type: 'audio/flac' });
      const again = await transcribe(file, { keep: false });
      if (current?.player !== player || !again.words?.length) return;
      byId('words').className = 'words speech';
      showWords(byId('words'), wordsOf(again.words), player);
    } catch {
      say('The words cannot be played one by one at the moment.');
    }
  }

  async function act(done, what) {
    if (!current) return;
    fail('');
    try {
      await what(current);
      say(done);
      await next();
    } catch (error) {
      fail(error.message);
    }
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    act('Kept, thank you.', (one) => correct(one.request_id, text.value));
  });
  const pass = () => act('Left to others.', (one) => skip(one.request_id));
  byId('skip').addEventListener('click', pass);
  const hearAgain = () => (current.player.playing ? current.player.stop() : current.player.play());
  byId('play').addEventListener('click', hearAgain);
  form.addEventListener('keydown', (event) => {
    if (!event.ctrlKey) return;
    const action = { Enter: () => form.requestSubmit(), '.': pass, ' ': hearAgain }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  return {
    refresh: () => refresh().catch(() => count(0)), // the badge is no reason for an alarm
    async enter() {
      fail('');
      if (!askName() || current) return;
      try {
        await next();
      } catch (error) {
        fail(error.message);
      }
    },
    leave: () => current?.player.stop(),
  };
}
