// Words that show how sure the recogniser is of them, and that can be played.
//
// All words of an utterance are one stop of the Tab key; the arrow keys go from word to word.

const SURE = 0.8;
const UNSURE = 0.5;
const BEFORE = 0.08; // seconds: a word that begins at its first frame sounds cut off
const AFTER = 0.12;

const kind = (confidence) => {
  if (confidence >= SURE) return '';
  return confidence >= UNSURE ? 'unsure' : 'doubtful';
};
const percent = (share) => `${Math.round(100 * share)} %`;

// Words that are still being spoken: to look at only.
export function hint(place, words) {
  place.replaceChildren(...words.flatMap((word) => {
    const made = document.createElement('span');
    made.className = `word ${kind(word.confidence)}`;
    made.textContent = word.text;
    return [made, ' '];
  }));
}

export function showWords(place, words, player) {
  place.setAttribute('role', 'group');
  place.setAttribute('aria-label', 'Words; arrow keys move, Enter plays one');
  place.replaceChildren(...words.flatMap((word, at) => [button(word, at), ' ']));
  const buttons = [...place.querySelectorAll('.word')];
  buttons.forEach((one, at) => one.addEventListener('click', () => {
    focusOn(buttons, at, false);
    player?.play(Math.max(0, words[at].start - BEFORE), words[at].end + AFTER);
  }));
  place.onkeydown = (event) => move(event, buttons);
  if (player) player.onTime = (time) => follow(buttons, words, time);
}

function button(word, at) {
  const made = document.createElement('button');
  made.type = 'button';
  made.className = `word ${kind(word.confidence)}`;
  made.textContent = word.text;
  made.title = `${percent(word.confidence)} sure`;
  made.setAttribute('aria-label', kind(word.confidence)
    ? `${word.text}, only ${percent(word.confidence)} sure` : word.text);
  made.tabIndex = at ? -1 : 0;
  return made;
}

function focusOn(buttons, at, move = true) {
  buttons.forEach((one, other) => { one.tabIndex = other === at ? 0 : -1; });
  if (move) buttons[at].focus();
}

function move(event, buttons) {
  const from = buttons.indexOf(document.activeElement);
  const to = {
    ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: buttons.length - 1,
  }[event.key];
  if (from < 0 || to === undefined || !buttons[to]) return;
  event.preventDefault();
  focusOn(buttons, to);
}

function follow(buttons, words, time) {
  buttons.forEach((one, at) => {
    const now = time !== null && time >= words[at].start - BEFORE && time < words[at].end;
    one.classList.toggle('now', now);
  });
}
