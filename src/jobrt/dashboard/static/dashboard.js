// Refresh the live parts of a page while it is visible. The pages also work without this script.
"use strict";

(() => {
  const INTERVAL = 2000; // milliseconds; if ten times the response time is longer, that is used
  const SOON = 200;
  const parts = () => document.querySelectorAll("[data-live]");
  const banner = document.getElementById("connection");
  const pause = document.getElementById("pause");
  const latest = new Map(); // the last version of each part that the server sent
  let timer = 0;
  let request = null;
  let hurried = false; // something has happened that only a refresh shows
  let pressed = false; // a mouse button or a key is down: its target must still be there when it is released

  const showBanner = (text) => {
    banner.textContent = text;
    banner.hidden = !text;
  };

  // A part is not replaced while its form fields are in use or its text is selected.
  const isBusy = (part) => {
    const active = document.activeElement;
    const selection = getSelection();
    return (!selection.isCollapsed && part.contains(selection.anchorNode))
      || (part.contains(active) && active.matches("input:not([type=checkbox]), select, textarea"));
  };

  // A bar moves from the value that it had to the new one until the next is expected, so it does not jump.
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const gliding = new WeakMap();
  const glide = (bar, from, to, milliseconds) => {
    const began = performance.now();
    gliding.set(bar, began);
    bar.value = to;
    if (from === undefined || from >= to || still.matches) return;
    const step = (now) => {
      if (gliding.get(bar) !== began) return;
      const part = Math.min(Math.max(now - began, 0) / milliseconds, 1);
      bar.value = from + (to - from) * part;
      if (part < 1 && bar.isConnected) requestAnimationFrame(step);
    };
    bar.value = from;
    requestAnimationFrame(step);
  };

  const replace = (old, fresh) => {
    const checked = new Set([...old.querySelectorAll("input[type=checkbox]:checked")].map((box) => box.value));
    const unfolded = new Map([...old.querySelectorAll("details[id]")].map((details) => [details.id, details.open]));
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.matches("a[href]")
      ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : focused.matches("input[name=id]")
        ? `input[name=id][value="${focused.value}"]` : "");
    const scrolled = [...old.querySelectorAll(".scroll, pre")].map((box) => box.scrollLeft);
    for (const box of fresh.querySelectorAll("input[type=checkbox]")) box.checked = checked.has(box.value);
    for (const details of fresh.querySelectorAll("details[id]")) {
      if (unfolded.has(details.id)) details.open = unfolded.get(details.id);
    }
    const reached = new Map([...old.querySelectorAll("progress[data-job]")].map((bar) => [bar.dataset.job, bar.value]));
    old.replaceWith(fresh);
    for (const bar of fresh.querySelectorAll("progress[data-job]")) glide(bar, reached.get(bar.dataset.job), bar.value, INTERVAL);
    [...fresh.querySelectorAll(".scroll, pre")].forEach((box, index) => { box.scrollLeft = scrolled[index] ?? 0; });
    if (key) fresh.querySelector(key)?.focus({ preventScroll: true });
    enhance();
  };

  const show = (text) => {
    if (pressed) return;
    const sent = new DOMParser().parseFromString(text, "text/html");
    for (const fresh of sent.querySelectorAll("[data-live]")) {
      const old = document.getElementById(fresh.id);
      if (!old || isBusy(old) || latest.get(fresh.id) === fresh.outerHTML) continue;
      latest.set(fresh.id, fresh.outerHTML);
      replace(old, document.adoptNode(fresh));
    }
    follow();
  };

  const refresh = async () => {
    const began = performance.now();
    hurried = false;
    request = new AbortController();
    try {
      const response = await fetch(location.href, {
        headers: { "x-jobrt-live": "1" }, cache: "no-store", signal: request.signal,
      });
      const text = await response.text();
      if (response.ok) show(text);
      showBanner(response.ok ? "" : `${text} (The page shows the last known state.)`);
    } catch (error) {
      if (error.name === "AbortError") return;
      showBanner("The server does not respond. Retrying. The page shows the last known state.");
      schedule(INTERVAL); // how long a server took to go away says nothing about the next response
      return;
    }
    const soon = document.querySelector("[data-soon]"); // it is counted in steps, and more of it can be shown
    schedule(soon || hurried ? SOON : Math.max(INTERVAL, 10 * (performance.now() - began)));
  };

  const stop = () => {
    clearTimeout(timer);
    request?.abort();
    source?.close();
    source = null;
  };

  const isPaused = () => document.hidden || pause.getAttribute("aria-pressed") === "true";

  const schedule = (wait) => {
    clearTimeout(timer);
    if (!isPaused()) timer = setTimeout(refresh, wait);
  };

  const hurry = () => {
    if (!hurried) schedule(SOON);
    hurried = true;
  };

  // The log of a job: each entry is added when it comes. A job that has ended says nothing until another attempt.
  const KEPT = 1000; // lines
  const FINAL = ["completed", "cancelled", "discarded"];
  const log = document.getElementById("log");
  const list = log?.querySelector("ol");
  const box = list?.parentElement; // it scrolls
  let source = null;
  let cursor = log?.dataset.after;
  const lastAttempt = () => document.getElementById("job")?.dataset.final; // undefined: the job has not ended
  let over = lastAttempt(); // all that a job has said until the end of this attempt is shown

  const addLine = (kind, level, entry, about, text, traceback) => {
    const line = log.querySelector("template").content.firstElementChild.cloneNode(true);
    const fill = (part, words) => { line.querySelector(part).textContent = words; };
    line.className = `${kind} ${level}`;
    fill("time", entry.at ? entry.at.slice(0, 19).replace("T", " ") : "");
    fill("b", about);
    fill("span", text);
    if (traceback) fill("pre", traceback);
    else line.querySelector("pre").remove();
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
    list.append(line);
    while (list.children.length > KEPT) list.firstElementChild.remove();
    log.hidden = false;
    if (atEnd) box.scrollTop = box.scrollHeight;
    cursor = entry.cursor;
  };

  const told = {
    log: (entry) => addLine("log", entry.level, entry, entry.level, entry.message, entry.traceback),
    emit: (entry) => addLine("emit", "", entry, entry.key ?? "", JSON.stringify(entry.value)),
    action: (entry) => {
      addLine("action", "", entry, "action", `${entry.who} ${entry.what}${entry.why && `: ${entry.why}`}`);
      hurry();
    },
    gap: (entry) => addLine("gap", "", entry, "", `${entry.missing} earlier entries are not kept any more`),
    progress: ({ progress }) => {
      const shown = document.getElementById("progress");
      const bar = shown?.querySelector("progress");
      if (!bar || bar.max !== progress.total) { hurry(); return; }
      glide(bar, bar.value, progress.done, SOON);
      shown.querySelector(".num").textContent = `${progress.done} of ${progress.total}`;
      shown.querySelector(".note").textContent = progress.note;
    },
    state: (entry) => {
      if (FINAL.includes(entry.state)) {
        over = String(entry.attempt);
        source.close();
        source = null;
      }
      if (entry.state !== document.querySelector("h1 .state").textContent) hurry();
    },
  };

  const follow = () => {
    if (!log || isPaused() || source || (over !== undefined && over === lastAttempt())) return;
    source = new EventSource(`${log.dataset.follow}?after=${cursor}`);
    for (const [kind, tell] of Object.entries(told)) {
      source.addEventListener(kind, (event) => tell(JSON.parse(event.data)));
    }
    source.onerror = () => { // the browser tries again by itself after a break, but not after an error
      if (source?.readyState === EventSource.CLOSED) source = null;
    };
  };

  const enhance = () => {
    const all = document.getElementById("select-all");
    if (!all) return;
    const boxes = [...document.querySelectorAll("input[name=id][type=checkbox]")];
    const update = () => {
      const count = boxes.filter((box) => box.checked).length;
      document.getElementById("selected").textContent = count ? `Selected jobs (${count}):` : "Selected jobs:";
      all.checked = count > 0 && count === boxes.length;
      all.indeterminate = count > 0 && count < boxes.length;
    };
    all.hidden = false;
    all.onchange = () => {
      for (const box of boxes) box.checked = all.checked;
      update();
    };
    for (const box of boxes) box.onchange = update;
    update();
  };

  for (const part of parts()) latest.set(part.id, part.outerHTML);
  enhance();
  if (!parts().length) return;
  for (const name of ["pointerdown", "keydown"]) addEventListener(name, () => { pressed = true; }, true);
  for (const name of ["pointerup", "pointercancel", "keyup"]) addEventListener(name, () => { pressed = false; }, true);
  addEventListener("blur", () => { pressed = false; }); // a release outside of this window is not reported
  pause.hidden = false;
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Paused" : "Live";
    stop();
    schedule(0);
  });
  document.addEventListener("visibilitychange", () => {
    stop();
    schedule(0);
  });
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => { if (event.persisted) schedule(0); });
  if (box) box.scrollTop = box.scrollHeight;
  follow();
  schedule(INTERVAL);
})();
