'use strict';

const leadersShown = 10;
const leaders = document.getElementById('leaders');
const live = document.getElementById('live');
const toast = document.getElementById('toast');
const buttons = new Map([...document.querySelectorAll('[data-choice]')].map(b => [b.dataset.choice, b]));

function element(tag, text = '') {
  const e = document.createElement(tag);
  e.textContent = text;
  return e;
}

function show(standings) {
  for (const s of standings) {
    const button = buttons.get(s.shortcode);
    if (button) button.querySelector('.votes').textContent = s.votes;
  }
  if (standings.length === 0) return;
  leaders.replaceChildren(...standings.slice(0, leadersShown).map(s => {
    const row = element('li');
    const bar = element('i');
    bar.style.width = `${100 * s.votes / standings[0].votes}%`;
    row.append(element('span', s.unicode), bar, element('b', s.votes));
    row.title = s.shortcode;
    return row;
  }));
}

let hide;
function say(text, bad) {
  toast.textContent = text;
  toast.className = bad ? 'on bad' : 'on';
  clearTimeout(hide);
  hide = setTimeout(() => { toast.className = ''; }, 2500);
}

async function vote(choice, button) {
  try {
    const response = await fetch('/api/vote?choice=' + encodeURIComponent(choice));
    const answer = await response.json();
    if (!response.ok) throw new Error(`${response.status}: ${answer.error}`);
    say(`${button.querySelector('.emoji').textContent} has ${answer.votes} votes`);
  } catch (error) {
    button.classList.add('failed');
    setTimeout(() => button.classList.remove('failed'), 600);
    say(error.message, true);
  }
}

for (const [choice, button] of buttons) {
  button.addEventListener('click', () => vote(choice, button));
}
const events = new EventSource('/api/events');
events.onopen = () => live.classList.add('on');
events.onerror = () => live.classList.remove('on');
events.onmessage = message => show(JSON.parse(message.data));
