'use strict';
(() => {
  const readout = document.querySelector('output');
  const views = [...document.querySelectorAll('input[name=view]')];
  const setView = () => {
    const view = views.find((input) => input.checked);
    if (view) document.body.className = view.value;
  };
  views.forEach((input) => input.addEventListener('change', setView));
  setView(); // A browser keeps the choice when a page is loaded again.

  const marks = { '\n': '↵', '\t': '⇥', ' ': '␣' };
  const shown = (text) => text.replace(/[\n\t ]/g, (c) => marks[c]) || '(part of a character)';
  const bits = (value) => (value == null ? 'none' : value.toFixed(2).replace('-', '−') + ' bits');
  const part = (label, tag, value) => {
    const [span, inner] = [document.createElement('span'), document.createElement(tag)];
    inner.textContent = value;
    span.append(label, inner);
    return span;
  };

  let now = null;
  const show = (token, index, values) => {
    now?.classList.remove('now');
    now = token;
    now.classList.add('now');
    const [state, reset] = [values.state[index], values.reset?.[index]];
    const count = `${index + 1} of ${values.state.length}`;
    const parts = [part('', 'code', shown(token.textContent)), part('token ', 'b', count)];
    if (values.reset) {
      const gain = state == null || reset == null ? null : reset - state;
      parts.push(part('with state ', 'b', bits(state)), part('without ', 'b', bits(reset)));
      parts.push(part('gain ', 'b', (gain > 0 ? '+' : '') + bits(gain)));
    } else {
      parts.push(part('surprise ', 'b', bits(state)));
    }
    readout.replaceChildren(...parts.flatMap((span) => [span, ' ']));
  };

  // Where the pointer was last moved to: that comes after the event of a token that it is moved to.
  let [x, y] = [-1, -1];
  document.addEventListener('mousemove', (event) => { [x, y] = [event.clientX, event.clientY]; });

  for (const text of document.querySelectorAll('.text')) {
    const values = JSON.parse(text.nextElementSibling.textContent);
    const tokens = text.getElementsByTagName('i');
    let at = -1;
    const go = (index) => {
      at = Math.max(0, Math.min(tokens.length - 1, index));
      if (!tokens.length) return;
      show(tokens[at], at, values);
      tokens[at].scrollIntoView({ block: 'nearest' });
    };
    const point = (event) => {
      // A page that scrolls under a resting pointer must not undo what the keys have chosen.
      if (event.type === 'mouseover' && event.clientX === x && event.clientY === y) return;
      const token = event.target.closest('i');
      if (!token) return;
      const block = token.parentElement;
      at = Number(block.dataset.start) + [].indexOf.call(block.children, token);
      show(token, at, values);
    };
    text.addEventListener('mouseover', point);
    text.addEventListener('click', point);
    text.addEventListener('focus', () => text.matches(':focus-visible') && go(Math.max(at, 0)));
    text.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tokens.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      go(to);
    });
  }
})();
