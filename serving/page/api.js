// The routes of the server. Every refusal is an Error whose message is the server's sentence.

const NAME = 'hearloop.name';
const TOKEN = 'hearloop.token';

export const you = {
  get name() { return localStorage.getItem(NAME) ?? ''; },
  get token() { return sessionStorage.getItem(TOKEN) ?? ''; },
  keep(name, token) {
    localStorage.setItem(NAME, name);
    sessionStorage.setItem(TOKEN, token);
  },
};

export const TOKEN_NEEDED = 'token-needed'; // an event of the window

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
    if (status === 401) dispatchEvent(new Event(TOKEN_NEEDED));
  }
}

// The page lies at …/page/: the routes begin one folder up, whatever the prefix of a gateway.
export const address = (path) => new URL(`..${path}`, document.baseURI);

export function headers(more = {}) {
  return you.token ? { ...more, authorization: `Bearer ${you.token}` } : more;
}

export function sentence(status, body) {
  try {
    const { error } = JSON.parse(body);
    return error.message ?? error;
  } catch {
    return `The server answered ${status}.`;
  }
}

async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(address(path), {
      method,
      headers: headers(body ? { 'content-type': 'application/json' } : {}),
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, 'The server does not answer; check the connection and try again.');
  }
  if (!answer.ok) throw new Refused(answer.status, sentence(answer.status, await answer.text()));
  return answer;
}

// Words of the server as {text, start, end, confidence}, seconds of the recording.
export const words = (found) => (found ?? []).map((one) => ({
  text: one.word, start: one.start, end: one.end, confidence: one.confidence ?? 1,
}));

// Reads server-sent events as they arrive; `text` is all that has arrived so far.
function reader(onEvent) {
  let read = 0;
  return (text) => {
    for (let end; (end = text.indexOf('\n\n', read)) >= 0; read = end + 2) {
      onEvent(JSON.parse(text.slice(read, end).replace(/^data: /, '')));
    }
  };
}

// XMLHttpRequest, for fetch tells nobody how far an upload is. Long recordings come back piece by
// piece: `onHeard` gets the text so far, and the second that it reaches to.
export function transcribe(file, { onProgress = () => {}, onHeard = () => {}, keep = true } = {}) {
  const form = new FormData();
  form.append('file', file);
  form.append('response_format', 'verbose_json');
  form.append('timestamp_granularities[]', 'word');
  form.append('stream', 'true');
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', address('/openai/v1/audio/transcriptions'));
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    if (!keep) request.setRequestHeader('x-hearloop-consent', 'no');
    request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    const broken = () => reject(new Refused(0, 'The connection broke off; try again.'));
    let text = '';
    const take = reader((event) => {
      if (event.error) reject(new Refused(422, event.error.message));
      else if (event.type === 'transcript.text.done') resolve(event);
      else { text += event.delta; onHeard(text, event.end); }
    });
    request.onprogress = () => { if (request.status === 200) take(request.responseText); };
    request.onerror = broken;
    request.onload = () => {
      if (request.status === 200) { take(request.responseText); broken(); return; }
      reject(new Refused(request.status, sentence(request.status, request.responseText)));
    };
    request.send(form);
  });
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

// What was answered just now is put on record behind the answer's back: 404 until it is.
export async function correct(requestId, text, tries = 5) {
  const body = { request_id: requestId, text, contributor: you.name };
  try {
    return await (await ask('POST', '/feedback/v1/corrections', body)).json();
  } catch (error) {
    if (error.status !== 404 || tries <= 1) throw error;
    await pause(1);
    return correct(requestId, text, tries - 1);
  }
}

const item = (requestId, what) => `/feedback/v1/queue/${encodeURIComponent(requestId)}/${what}`;
const me = () => ({ contributor: you.name });

export const queue = async (limit) => (
  await ask('GET', `/feedback/v1/queue?limit=${limit}&contributor=${encodeURIComponent(you.name)}`)
).json();
export const claim = async (requestId) => (await ask('POST', item(requestId, 'claim'), me())).json();
export const skip = (requestId) => ask('POST', item(requestId, 'skip'), me());
export const recording = async (requestId) => (await ask('GET', item(requestId, 'audio'))).blob();

// A browser cannot put a header on a WebSocket, nor see why one is refused: a token that lives for
// minutes travels instead, and asking for it tells what is wrong.
export async function realtimeKey() {
  const body = { session: { type: 'transcription' } };
  const secret = await (await ask('POST', '/openai/v1/realtime/client_secrets', body)).json();
  return secret.value;
}
