// Puts the page together: who you are, which view is shown, what is said to you.

import { TOKEN_NEEDED, you } from './api.js';
import { setUpReview } from './review.js';
import { setUpSpeaking } from './speak.js';
import { Transcripts } from './transcripts.js';

const byId = (name) => document.getElementById(name);

const say = (sentence) => { byId('status').textContent = sentence; };
const fail = (sentence) => { byId('trouble').textContent = sentence; };

// Whether we know who corrects; else the page asks.
function askName() {
  if (you.name) return true;
  byId('you').open = true;
  byId('name').focus();
  fail('Give a name first: corrections are kept under it.');
  return false;
}

const transcripts = new Transcripts(byId('transcripts'), byId('transcript'), { say, fail, askName });
const review = setUpReview({ say, fail, askName });
setUpSpeaking({ transcripts, say, fail });

const VIEWS = { speak: { enter() {}, leave() {} }, review };

function show() {
  say('');
  const chosen = VIEWS[location.hash.slice(1)] ? location.hash.slice(1) : 'speak';
  for (const [name, view] of Object.entries(VIEWS)) {
    byId(name).hidden = name !== chosen;
    if (name === chosen) byId(`to-${name}`).setAttribute('aria-current', 'page');
    else { byId(`to-${name}`).removeAttribute('aria-current'); view.leave(); }
  }
  document.title = chosen === 'review' ? 'Review · Hearloop' : 'Hearloop';
  VIEWS[chosen].enter();
}

byId('name').value = you.name;
byId('token').value = you.token;
byId('you-form').addEventListener('submit', (event) => {
  event.preventDefault();
  you.keep(byId('name').value.trim(), byId('token').value.trim());
  byId('you').open = false;
  fail('');
  say(you.name ? `Hello ${you.name}.` : '');
  if (location.hash === '#review') review.enter();
  else review.refresh();
});
byId('you').addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  byId('you').open = false;
  byId('you').querySelector('summary').focus();
});

addEventListener(TOKEN_NEEDED, () => {
  byId('you').open = true;
  byId('token').focus();
});
addEventListener('hashchange', show);
show();
if (you.name && location.hash !== '#review') review.refresh();
