/** The settings beside the photo: faces, dial, strength, map, size, download. */

const $ = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;

/** About how much is imagined, no more exact than the prediction. */
export function imagined(share) {
  if (share === null || share === undefined) return "";
  return share >= 0.075 ? `about ${5 * Math.round(20 * share)} % imagined` : "little imagined";
}

export function dialWords(value) {
  if (!value) return "neutral";
  return `${Math.abs(Math.round(100 * value))} % ${value < 0 ? "faithful" : "realistic"}`;
}

/** What fails again in the same way. */
const HOPELESS = /unreadable-picture|damaged-picture|too-large|gone/;
const STEPS = {
  waiting: "Waiting for its turn",
  "finding faces": "Finding faces",
  "found faces": "Waiting for its turn",
  "restoring faces": "Restoring faces",
};

export class Panel {
  /** act: what to do with a person's choices. */
  constructor(act) {
    this.act = act;
    for (const name of ["dial", "strength"]) {
      $(name).addEventListener("input", () => this.moved(name));
      $(name).addEventListener("dblclick", () => {
        $(name).value = name === "dial" ? 0 : 1;
        this.moved(name);
      });
    }
    $("restore").addEventListener("change", () => act.restore($("restore").checked));
    $("show-map").addEventListener("change", () => act.map($("show-map").checked));
    $("scale").addEventListener("change", (event) => act.scale(Number(event.target.value)));
    $("remove").addEventListener("click", () => act.remove());
    $("retry").addEventListener("click", () => act.retry());
    $("salvage").addEventListener("click", () => act.salvage());
    $("cancel").addEventListener("click", () => act.stop());
    $("faces").addEventListener("keydown", (event) => this.arrows(event));
  }

  moved(name) {
    this.words();
    this.act[name](Number($(name).value));
  }

  words() {
    $("dial-value").textContent = dialWords(Number($("dial").value));
    $("dial").setAttribute("aria-valuetext", $("dial-value").textContent);
    $("strength-value").textContent = percent(Number($("strength").value));
    $("strength").setAttribute("aria-valuetext", $("strength-value").textContent);
  }

  /** Arrow keys move between the faces, as in any group of radio buttons. */
  arrows(event) {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step) return;
    const radios = [...$("faces").querySelectorAll("[role=radio]")];
    const next = radios[(radios.indexOf(document.activeElement) + step + radios.length) % radios.length];
    next.click();
    [...$("faces").querySelectorAll("[role=radio]")][radios.indexOf(next)].focus();
    event.preventDefault();
  }

  show(photo) {
    const { job } = photo;
    $("name").textContent = photo.file.name;
    const failed = photo.problem ?? job?.problem;
    const words = failed?.detail.replace("the input", "this file").replace(" (use salvage=true)", "");
    $("problem").hidden = !failed;
    $("problem").textContent = failed ? `${words[0].toUpperCase()}${words.slice(1)}.` : "";
    $("retry").hidden = !failed || HOPELESS.test(failed.type);
    $("salvage").hidden = !/damaged-picture/.test(failed?.type);
    $("controls").hidden = Boolean(failed) || !job;
    const ready = job?.state === "done" && !failed;
    $("download").setAttribute("aria-disabled", String(!ready));
    $("download").hidden = Boolean(failed);
    if (ready) $("download").href = `/v1/jobs/${job.id}/picture`;
    else $("download").removeAttribute("href");
    $("download").download = job?.result_name ?? "";
    this.progress(photo, Boolean(failed));
    if (!job || failed) {
      $("facts").textContent = "";
      $("note").hidden = true;
      return;
    }
    this.facts(job);
    this.faces(photo);
    const face = job.faces[photo.face - 1];
    $("restore-row").hidden = !face;
    if (face) $("restore").checked = face.restore;
    const told = job.faces.filter((one) => (face ? one === face : $("show-map").checked) && one.summary);
    $("summary").textContent = told.map((one) => (face ? "" : `Face ${one.number}: `) + one.summary).join("\n");
    $("summary").hidden = !told.length;
    const shown = face ?? { dial: job.dial, strength: job.strength };
    if (!photo.pending) {
      $("dial").value = shown.dial;
      $("strength").value = shown.strength;
    }
    const idle = !job.faces.length;
    $("dial").disabled = idle || !job.has_dial || (face && !face.restore);
    $("strength").disabled = idle || (face && !face.restore);
    for (const radio of $("scale").querySelectorAll("input")) radio.checked = Number(radio.value) === job.scale;
    this.words();
  }

  facts(job) {
    const count = job.faces.length;
    const faces = `${count} ${count === 1 ? "face" : "faces"}`;
    const parts = [`${job.width} × ${job.height}`];
    if (job.state !== "waiting" && job.state !== "finding faces") parts.push(count ? faces : "no face found");
    if (job.imagined !== null) parts.push(imagined(job.imagined));
    $("facts").textContent = parts.join(" · ");
    const said = [job.note, ...job.remarks].filter(Boolean).map((words) => words.replace("; see --min-face", ""));
    if (job.version && !count) said.push("No face was found, so the photo stays as it is. If there is one, box it by hand with +");
    $("note").hidden = !said.length;
    $("note").textContent = said.map((words) => `${words[0].toUpperCase()}${words.slice(1)}.`).join(" ");
  }

  faces(photo) {
    const { job } = photo;
    const key = `${job.id} ${photo.face} ${job.faces.map((f) => `${f.version}${f.ready}${f.restore}`).join()}`;
    if (this.drawn === key) return;
    this.drawn = key;
    const focused = document.activeElement?.dataset?.face;
    const radio = (number, label, content) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("role", "radio");
      button.setAttribute("aria-checked", String(photo.face === number));
      button.setAttribute("aria-label", label);
      button.title = label;
      button.dataset.face = number;
      button.tabIndex = photo.face === number ? 0 : -1;
      button.append(content);
      button.addEventListener("click", () => this.act.select(number));
      return button;
    };
    const buttons = job.faces.map((face) => {
      const image = new Image();
      image.alt = "";
      const which = face.restore ? "after" : "before";
      if (face.ready) image.src = `/v1/jobs/${job.id}/faces/${face.number}/${which}?v=${face.version}`;
      const button = radio(face.number, `Face ${face.number}${face.restore ? "" : ", left alone"}`, face.ready ? image : String(face.number));
      button.classList.toggle("alone", !face.restore);
      return button;
    });
    const mark = document.createElement("button");
    mark.type = "button";
    mark.id = "mark-face";
    mark.title = "Box a face by hand";
    mark.setAttribute("aria-label", "Box a face by hand");
    mark.textContent = "+";
    mark.addEventListener("click", () => this.act.mark());
    $("faces").replaceChildren(...(job.faces.length > 1 ? [radio(0, "All faces", "All")] : []), ...buttons, mark);
    if (focused !== undefined) $("faces").querySelector(`[data-face="${focused}"]`)?.focus();
  }

  progress(photo, failed) {
    const { job } = photo;
    const busy = !failed && (!job || job.state in STEPS);
    $("progress").hidden = !busy;
    if (!busy) return;
    const counted = job?.of && job.state === "restoring faces";
    const at = counted ? `, ${Math.min(job.done + 1, job.of)} of ${job.of}` : "";
    $("step").textContent = job ? STEPS[job.state] + at : photo.sent ? "Sending" : "Waiting for its turn";
    $("cancel").hidden = Boolean(job?.version);
    const bar = $("progress").querySelector("progress");
    if (job?.of > 0 && job.state !== "waiting" && job.state !== "found faces") bar.value = job.state === "finding faces" ? (0.3 * job.done) / job.of : (job.version ? 0 : 0.3) + ((job.version ? 1 : 0.7) * job.done) / job.of;
    else bar.removeAttribute("value");
  }
}
