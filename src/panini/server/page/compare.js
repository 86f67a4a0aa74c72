/** The photo before and after, with a slider between, zoom, boxes around faces, and the map of what is invented. */

import { picture } from "./api.js";

const $ = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const FARTHEST = 16; // screen pixels for each pixel of the photo

export class Stage {
  constructor({ selected, marked }) {
    this.element = $("stage");
    this.before = $("before");
    this.after = $("after");
    this.share = 0.5;
    this.view = { zoom: 1, x: 0, y: 0 };
    this.fitted = true;
    this.selected = selected;
    this.marked = marked;
    this.pointers = new Map();
    this.showMap = false;
    new ResizeObserver(() => (this.fitted ? this.fit() : this.draw())).observe(this.element);
    this.listen();
  }

  /** Shows a photo, and what of its result there is. */
  show(photo) {
    const other = photo !== this.photo;
    this.photo = photo;
    if (other) {
      this.stopMarking();
      this.size = null;
      this.element.classList.remove("bare");
      this.before.onload = () => {
        if (!this.size) this.measure(this.before.naturalWidth, this.before.naturalHeight);
      };
      this.before.onerror = () => {
        this.before.removeAttribute("src");
        this.element.classList.toggle("bare", !this.size);
        if (photo.job && photo.job.width && photo.job.state !== "waiting") this.before.src = `/v1/jobs/${photo.job.id}/preview?which=before`;
      };
      this.before.src = photo.url;
      this.boxes = null;
      this.maps = null;
    } else if (!this.before.getAttribute("src")) {
      this.before.onerror();
    }
    const { job } = photo;
    if (job?.width) this.measure(job.width, job.height);
    this.paint();
    const done = Boolean(photo.canvas);
    for (const id of ["divider", "compare", "tag-before", "tag-after"]) $(id).hidden = !done;
    $("over").hidden = !done;
    this.element.classList.toggle("idle", !done);
    this.drawBoxes();
    this.drawMaps();
    this.draw();
  }

  measure(width, height) {
    if (this.size?.width === width && this.size?.height === height) return;
    this.size = { width, height };
    this.element.classList.remove("bare");
    this.before.style.width = `${width}px`;
    this.before.style.height = `${height}px`;
    this.fit();
  }

  /** The result goes from the photo's own canvas to the one that is shown. */
  paint() {
    const { canvas } = this.photo;
    if (!canvas || !this.size) return;
    if (this.after !== canvas) {
      canvas.id = "after";
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", "The photo after");
      this.after.replaceWith(canvas);
      this.after = canvas;
    }
    canvas.style.width = `${this.size.width}px`;
    canvas.style.height = `${this.size.height}px`;
  }

  drawBoxes() {
    const faces = this.photo.job?.faces ?? [];
    const key = faces.length;
    if (this.boxes !== key) {
      this.boxes = key;
      $("boxes").replaceChildren(
        ...faces.map((face) => {
          const button = document.createElement("button");
          button.type = "button";
          const number = document.createElement("span");
          number.textContent = face.number;
          button.append(number);
          button.addEventListener("click", () => this.selected(face.number));
          return button;
        }),
      );
    }
    [...$("boxes").children].forEach((button, at) => {
      const face = faces[at];
      button.classList.toggle("alone", !face.restore);
      button.setAttribute("aria-pressed", String(this.photo.face === face.number));
      button.setAttribute("aria-label", `Face ${face.number}${face.restore ? "" : ", left alone"}`);
    });
  }

  drawMaps() {
    const faces = (this.photo.job?.faces ?? []).filter((face) => face.restore && face.ready);
    const key = this.showMap ? faces.map((face) => `${face.number}:${face.version}`).join() : "";
    if (this.maps === key) return;
    this.maps = key;
    const id = this.photo.job?.id;
    $("maps").replaceChildren(
      ...(this.showMap ? faces : []).map((face) => {
        const image = new Image();
        image.alt = "";
        image.src = `/v1/jobs/${id}/faces/${face.number}/map?v=${face.version}`;
        const [a, b, c, d, e, f] = face.crop;
        image.style.transform = `matrix(${a}, ${b}, ${c}, ${d}, ${e}, ${f})`;
        return image;
      }),
    );
  }

  /** Places everything according to zoom and slider. */
  draw() {
    if (!this.size) return;
    const { clientWidth: wide, clientHeight: high } = this.element;
    const { zoom } = this.view;
    const [w, h] = [this.size.width * zoom, this.size.height * zoom];
    this.view.x = w <= wide ? (wide - w) / 2 : clamp(this.view.x, wide - w, 0);
    this.view.y = h <= high ? (high - h) / 2 : clamp(this.view.y, high - h, 0);
    const { x, y } = this.view;
    const place = `translate(${x}px, ${y}px) scale(${zoom})`;
    for (const layer of [this.before, this.after, $("maps")]) layer.style.transform = place;
    // The slider runs over the visible part of the photo.
    const [left, right] = [Math.max(x, 0), Math.min(x + w, wide)];
    const at = left + (right - left) * this.share;
    $("over").style.clipPath = `inset(0 0 0 ${at}px)`;
    $("under").style.clipPath = this.photo.canvas ? `inset(0 ${wide - at}px 0 0)` : "none";
    $("divider").style.left = `${at}px`;
    $("divider").style.top = `${Math.max(y, 0)}px`;
    $("divider").style.bottom = `${Math.max(high - y - h, 0)}px`;
    this.range = [left, right];
    (this.photo.job?.faces ?? []).forEach((face, index) => {
      const button = $("boxes").children[index];
      if (!button) return; // drawn soon
      const [bx, by, bw, bh] = face.box;
      Object.assign(button.style, {
        left: `${x + bx * zoom}px`, top: `${y + by * zoom}px`, width: `${bw * zoom}px`, height: `${bh * zoom}px`,
      });
    });
    if (this.mark) this.drawMarker();
    $("zoom-fit").textContent = this.fitted ? "Fit" : `${Math.round(zoom * 100)} %`;
  }

  fit() {
    if (!this.size) return;
    const { clientWidth: wide, clientHeight: high } = this.element;
    this.view.zoom = Math.min(wide / this.size.width, high / this.size.height, 4);
    this.fitted = true;
    this.draw();
  }

  zoomBy(factor, px = this.element.clientWidth / 2, py = this.element.clientHeight / 2) {
    if (!this.size) return;
    const { clientWidth: wide, clientHeight: high } = this.element;
    const least = Math.min(wide / this.size.width, high / this.size.height, 4);
    const zoom = clamp(this.view.zoom * factor, least, Math.max(FARTHEST, least));
    this.view.x = px - ((px - this.view.x) * zoom) / this.view.zoom;
    this.view.y = py - ((py - this.view.y) * zoom) / this.view.zoom;
    this.view.zoom = zoom;
    this.fitted = zoom <= least;
    this.draw();
  }

  /** Zooms so that a face fills much of the stage. */
  zoomTo(face) {
    const [x, y, w, h] = face.box;
    const { clientWidth: wide, clientHeight: high } = this.element;
    this.view.zoom = clamp(0.45 * Math.min(wide / w, high / h), this.view.zoom, FARTHEST);
    this.view.x = wide / 2 - (x + w / 2) * this.view.zoom;
    this.view.y = high / 2 - (y + h / 2) * this.view.zoom;
    this.fitted = false;
    this.draw();
  }

  compare(share) {
    this.share = clamp(share, 0, 1);
    $("compare").value = Math.round(100 * this.share);
    $("compare").setAttribute("aria-valuetext", `${Math.round(100 * this.share)} % before`);
    this.draw();
  }

  listen() {
    const { element } = this;
    $("compare").addEventListener("input", () => this.compare($("compare").value / 100));
    $("zoom-in").addEventListener("click", () => this.zoomBy(1.5));
    $("zoom-out").addEventListener("click", () => this.zoomBy(1 / 1.5));
    $("zoom-fit").addEventListener("click", () => this.fit());
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { left, top } = element.getBoundingClientRect();
      this.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - left, event.clientY - top);
    }, { passive: false });
    element.addEventListener("dblclick", (event) => {
      if (event.target.closest("button, input")) return;
      const { left, top } = element.getBoundingClientRect();
      if (this.fitted) this.zoomBy(3, event.clientX - left, event.clientY - top);
      else this.fit();
    });
    element.addEventListener("pointerdown", (event) => this.down(event));
    element.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, (event) => this.up(event));
    element.addEventListener("keydown", (event) => this.key(event));
  }

  at(event) {
    const { left, top } = this.element.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  down(event) {
    if (event.button || event.target.closest(".zoom, #progress, #boxes button, #tip button") || !this.photo) return;
    const point = this.at(event);
    this.pointers.set(event.pointerId, point);
    this.element.setPointerCapture(event.pointerId);
    this.hand = null;
    if (this.mark) {
      this.mark = { from: point, drawn: true, box: this.toPhoto(point, point) };
    } else if (this.pointers.size === 1) {
      const onGrip = this.photo.canvas && Math.abs(point.x - parseFloat($("divider").style.left)) < 26;
      this.hand = this.photo.canvas && (onGrip || this.fitted) ? "slider" : "photo";
      if (this.hand === "slider") this.slide(point);
      else this.element.classList.add("panning");
    }
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const point = this.at(event);
    if (this.mark) {
      this.mark.box = this.toPhoto(this.mark.from, point);
      this.drawMarker();
    } else if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
      const length = (p) => Math.hypot(p.x - other.x, p.y - other.y);
      this.view.x += (point.x - last.x) / 2;
      this.view.y += (point.y - last.y) / 2;
      this.zoomBy(length(point) / Math.max(length(last), 1), (point.x + other.x) / 2, (point.y + other.y) / 2);
    } else if (this.hand === "slider") {
      this.slide(point);
    } else {
      this.view.x += point.x - last.x;
      this.view.y += point.y - last.y;
      this.draw();
    }
    this.pointers.set(event.pointerId, point);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    this.element.classList.remove("panning");
    if (this.mark?.drawn && event.type === "pointerup") this.confirmMark();
  }

  slide(point) {
    const [left, right] = this.range;
    this.compare((point.x - left) / Math.max(right - left, 1));
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (this.mark) {
      if (step) this.moveMark(step, event.shiftKey);
      else if (event.key === "Enter") this.confirmMark();
      else if (event.key === "Escape") this.stopMarking();
      else return;
      event.preventDefault();
    } else if (step && event.target === this.element) {
      this.view.x -= 60 * step[0];
      this.view.y -= 60 * step[1];
      this.draw();
      event.preventDefault();
    }
  }

  /** Lets a person draw a box around a face: with the pointer, or with arrow keys and Enter. */
  startMarking() {
    if (!this.size) return;
    const { clientWidth: wide, clientHeight: high } = this.element;
    const side = Math.min(wide, high) / 4;
    const middle = { x: wide / 2, y: high / 2 };
    const corner = (sign) => ({ x: middle.x + (sign * side) / 2, y: middle.y + sign * side * 0.65 });
    this.mark = { box: this.toPhoto(corner(-1), corner(1)) };
    this.element.classList.add("marking");
    $("tip").hidden = false;
    $("tip").textContent = "Draw a box around the face. Or move this one with the arrow keys (Shift: size), and press Enter. Escape ends.";
    this.element.focus();
    this.drawMarker();
  }

  moveMark([dx, dy], size) {
    const [x, y, w, h] = this.mark.box;
    const step = 10 / this.view.zoom;
    this.mark.box = size
      ? [x, y, Math.max(w + dx * step, step), Math.max(h + dy * step, step)]
      : [clamp(x + dx * step, 0, this.size.width - w), clamp(y + dy * step, 0, this.size.height - h), w, h];
    this.drawMarker();
  }

  stopMarking() {
    this.mark = null;
    this.element.classList.remove("marking");
    $("marker").hidden = $("tip").hidden = true;
  }

  confirmMark() {
    const { box } = this.mark;
    if (box[2] * this.view.zoom < 8 || box[3] * this.view.zoom < 8) return;
    this.stopMarking();
    this.marked(box);
  }

  toPhoto(a, b) {
    const { zoom, x, y } = this.view;
    const px = [a.x, b.x].map((v) => clamp((v - x) / zoom, 0, this.size.width)).sort((p, q) => p - q);
    const py = [a.y, b.y].map((v) => clamp((v - y) / zoom, 0, this.size.height)).sort((p, q) => p - q);
    return [px[0], py[0], px[1] - px[0], py[1] - py[0]];
  }

  drawMarker() {
    const { zoom, x, y } = this.view;
    const [bx, by, bw, bh] = this.mark.box;
    $("marker").hidden = false;
    Object.assign($("marker").style, {
      left: `${x + bx * zoom}px`, top: `${y + by * zoom}px`, width: `${bw * zoom}px`, height: `${bh * zoom}px`,
    });
  }
}

/** Brings a photo's canvas up to its job's newest result: all of it, or only the faces that changed. */
export async function refresh(photo) {
  const { job } = photo;
  const wanted = { version: job.version, scale: job.result_scale };
  const path = `/v1/jobs/${job.id}/preview?v=${wanted.version}`;
  const fresh = !photo.canvas || photo.shown.scale !== wanted.scale || job.preview_scale < 1 || photo.shown.id !== job.id;
  if (fresh) {
    const bitmap = await picture(path);
    const canvas = document.createElement("canvas");
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    photo.canvas = canvas;
  } else {
    const changed = job.faces.filter((face) => face.version > photo.shown.version);
    const parts = changed.filter((face) => face.region[2] && face.region[3]).map(async ({ region }) => [region, await picture(`${path}&region=${region}`)]);
    const context = photo.canvas.getContext("2d");
    for (const [[x, y, w, h], bitmap] of await Promise.all(parts)) {
      context.clearRect(x * wanted.scale, y * wanted.scale, w * wanted.scale, h * wanted.scale);
      context.drawImage(bitmap, x * wanted.scale, y * wanted.scale);
    }
  }
  photo.shown = { ...wanted, id: job.id };
}

