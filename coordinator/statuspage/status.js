"use strict";
// Looks again every few seconds and exchanges the parts that changed, so that focus, selection and scrolling stay.
(() => {
  const every = 1000 * Number(document.body.dataset.refresh);
  const patience = 5000;
  const freshness = document.getElementById("freshness");
  const button = document.getElementById("pause");
  let paused = false;
  let timer = 0;
  let heard = new Date();

  const clock = (when) => when.toLocaleTimeString([], { hour12: false });

  function say(words) {
    if (freshness.textContent !== words) freshness.textContent = words;
  }

  function exchange(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.id === "state") { // a live region is heard when its text changes, not when it is another element
      old.className = fresh.className;
      if (old.textContent !== fresh.textContent) old.textContent = fresh.textContent;
      return;
    }
    const places = [...old.querySelectorAll("[id].scroll")].map((one) => [one.id, one.scrollLeft, one.scrollTop]);
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.replaceChildren(...fresh.childNodes);
    for (const [id, left, top] of places) {
      const one = document.getElementById(id);
      if (one) one.scrollTo({ left, top, behavior: "instant" });
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  async function look() {
    const answer = await fetch("status/parts", { cache: "no-store", signal: AbortSignal.timeout(patience) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of fresh.body.children) {
      const old = document.getElementById(part.id);
      if (old) exchange(old, part);
    }
    heard = new Date();
  }

  async function turn() {
    if (!paused && !document.hidden) {
      try {
        await look();
        document.body.classList.remove("old");
        say(`As of ${clock(heard)}, renewed every ${every / 1000} seconds.`);
      } catch {
        document.body.classList.add("old");
        say(`The coordinator does not answer; what is shown is of ${clock(heard)}.`);
      }
    }
    if (!paused) timer = setTimeout(turn, every);
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Go on" : "Pause";
    clearTimeout(timer);
    if (paused) say(`Paused; what is shown is of ${clock(heard)}.`);
    else turn();
  });
  timer = setTimeout(turn, every);
})();
