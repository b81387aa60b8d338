/* The page is complete without this script. It adds what needs a reader's hand: values under the pointer, lines on
   and off, another scale, and the slider over the steps of training. All numbers come from attributes that plot.c and
   page.html wrote: data-points, data-range, data-loss, data-rank. */
'use strict';
const all = (what, inside = document) => [...inside.querySelectorAll(what)];
const numbers = text => text.trim().split(/\s+/).map(Number);
const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

function make(name, attributes = {}, text = '') {
    const e = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
    e.textContent = text;
    return e;
}

/* ---- curves ---- */

class Plot {
    constructor(svg) {
        const [low, high, log, percent] = numbers(svg.dataset.range);
        Object.assign(this, {svg, low, high, log: !!log, percent: !!percent});
        const [left, top, bottom, right] = numbers(svg.querySelector('.axis').getAttribute('d').replace(/[MVH]/g, ' '));
        Object.assign(this, {left, top, bottom, right});
        this.lines = all('[data-line]', svg).map(g => ({
            g, name: g.dataset.name, points: g.dataset.points.split(',').filter(Boolean).map(numbers),
            curve: g.querySelector('.curve'), band: g.querySelector('polygon'),
        }));
        const points = this.lines.flatMap(line => line.points);
        this.xs = [...new Set(points.map(p => p[0]))].sort((a, b) => a - b);
        this.least = Math.min(...points.map(p => p[1]).filter(y => y > 0));
        this.guide = svg.querySelector('.axis').cloneNode();
        this.guide.setAttribute('class', 'guide');
        this.guide.setAttribute('d', '');
        svg.append(this.guide);
        this.tip = make('div', {class: 'tip', hidden: ''});
        svg.parentElement.append(this.tip);
        svg.addEventListener('pointermove', e => this.point(e));
        svg.addEventListener('pointerdown', e => this.point(e));
        svg.addEventListener('pointerleave', () => this.leave());
        if (!this.percent && this.least < Infinity) this.addButton();
    }

    x(v) {
        const first = this.xs[0], last = this.xs[this.xs.length - 1];
        return this.left + (this.right - this.left) * (v - first) / (last - first || 1);
    }

    y(v) {
        const f = this.log ? u => Math.log(Math.max(u, 1e-300)) : u => u;
        const share = (f(v) - f(this.low)) / (f(this.high) - f(this.low));
        return clamp(this.bottom - (this.bottom - this.top) * share, this.top, this.bottom);
    }

    text(v) { return this.percent ? (100 * v).toFixed(1) + ' %' : v.toFixed(4); }

    /* The values at the step that is nearest to the pointer. */
    point(event) {
        const box = this.svg.getBoundingClientRect();
        const at = (event.clientX - box.left) / box.width * this.svg.viewBox.baseVal.width;
        const x = this.xs.reduce((a, b) => Math.abs(this.x(b) - at) < Math.abs(this.x(a) - at) ? b : a);
        const name = all('.x', this.svg).find(t => t.dataset.x === String(x));
        this.guide.setAttribute('d', `M${this.x(x)} ${this.top}V${this.bottom}`);
        this.tip.replaceChildren(make('b', {}, `${this.svg.dataset.x} ${name ? name.textContent : x}`));
        for (const line of this.lines) {
            const p = line.points.find(q => q[0] === x);
            if (!p || line.g.classList.contains('off')) continue;
            const spread = p[2] ? ' ± ' + this.text(p[2]) : '';
            const row = make('span', {}, `${line.name}: ${this.text(p[1])}${spread}`);
            row.style.borderColor = line.curve.getAttribute('stroke');
            this.tip.append(row);
        }
        this.tip.hidden = false;
        const place = this.svg.offsetLeft + this.x(x) / this.svg.viewBox.baseVal.width * box.width;
        const room = this.svg.parentElement.clientWidth - this.tip.offsetWidth;
        this.tip.style.left = clamp(place - this.tip.offsetWidth / 2, 0, Math.max(room, 0)) + 'px';
    }

    leave() {
        this.tip.hidden = true;
        this.guide.setAttribute('d', '');
    }

    addButton() {
        const button = make('button', {type: 'button'}), place = this.svg.parentElement.querySelector('.scale');
        const label = () => button.textContent = this.log ? 'log scale' : 'linear scale';
        label();
        button.title = 'change the scale';
        place.replaceChildren(button);
        button.addEventListener('click', () => {
            const points = this.lines.flatMap(line => line.points);
            this.log = !this.log;
            this.low = this.log ? this.least / 1.1 : Math.min(0, ...points.map(p => p[1] - p[2]));
            this.high = Math.max(...points.map(p => p[1] + p[2])) * (this.log ? 1.1 : 1.06);
            label();
            this.draw();
        });
    }

    ticks() {
        const list = [];
        if (this.log) {
            const first = Math.floor(Math.log10(this.low)), last = Math.ceil(Math.log10(this.high));
            for (let i = first; i <= last; i++)
                for (const part of last - first > 3 ? [1] : [1, 2, 5]) list.push(part * 10 ** i);
        } else {
            const power = 10 ** Math.floor(Math.log10((this.high - this.low) / 5));
            const step = power * [1, 2, 5, 10].find(s => (this.high - this.low) / 5 / power <= s);
            for (let i = Math.ceil(this.low / step); i * step <= this.high; i++) list.push(i * step);
        }
        return list.filter(v => v >= this.low && v <= this.high);
    }

    draw() {
        const xy = (p, shift) => this.x(p[0]).toFixed(1) + ' ' + this.y(p[1] + shift * p[2]).toFixed(1);
        for (const line of this.lines) {
            line.curve.setAttribute('d', 'M' + line.points.map(p => xy(p, 0)).join('L'));
            const back = [...line.points].reverse();
            const edge = [...line.points.map(p => xy(p, 1)), ...back.map(p => xy(p, -1))];
            if (line.band) line.band.setAttribute('points', edge.join(' '));
        }
        this.svg.querySelector('.y').innerHTML = this.ticks().map(v => {
            const y = this.y(v).toFixed(1);
            return `<path class="gridline" d="M${this.left} ${y}H${this.right}"/>` +
                `<text x="${this.left - 5}" y="${+y + 4}" text-anchor="end">${+v.toPrecision(4)}</text>`;
        }).join('');
        const mark = this.svg.querySelector('.mark');
        if (!mark) return;
        const y = this.y(+mark.dataset.y);
        mark.setAttribute('d', `M${this.left} ${y}H${this.right}`);
        mark.nextElementSibling.setAttribute('y', y - 4);
    }
}

/* A name of a legend turns its line off and on, in every plot that has it. */
function addSwitches() {
    const items = all('.legend [data-line]');
    for (const item of items) {
        const button = make('button', {type: 'button', 'aria-pressed': 'true'});
        button.append(...item.childNodes);
        item.append(button);
        button.addEventListener('click', () => {
            const off = button.getAttribute('aria-pressed') === 'true';
            for (const same of items.filter(i => i.dataset.line === item.dataset.line))
                same.firstElementChild.setAttribute('aria-pressed', String(!off));
            for (const g of all(`.plot [data-line="${item.dataset.line}"]`)) g.classList.toggle('off', off);
        });
    }
}

/* ---- the slider ---- */

const heat = loss => clamp(Math.floor(loss), 0, 7);

/* A copy of the last still: its tokens get the loss and the rank of the step that the slider is at. */
class Trace {
    constructor(arm) {
        const stills = all('.still', arm), last = stills[stills.length - 1];
        this.live = last.cloneNode(true);
        this.live.classList.replace('still', 'live');
        this.tokens = all('[data-loss]', this.live).map(token => ({
            loss: numbers(token.dataset.loss), rank: numbers(token.dataset.rank), cells: all('i', token),
        }));
        this.said = all('.history li', arm);
        arm.append(this.live);
    }

    show(i) {
        for (const {loss, rank, cells} of this.tokens) {
            cells[0].textContent = loss[i].toFixed(1);
            cells[0].className = 'h' + heat(loss[i]);
            cells[1].textContent = '#' + rank[i];
            cells[1].classList.toggle('first', rank[i] === 1);
        }
        this.live.querySelector('.says').replaceChildren(...this.said[i].cloneNode(true).childNodes);
        this.live.querySelector('h5').hidden = true;
    }
}

function addSlider(place) {
    const steps = numbers(place.dataset.steps), traces = all('.trace').map(arm => new Trace(arm));
    const last = steps.length - 1;
    const slider = make('input', {type: 'range', min: 0, max: last, value: last, id: 'at-step'});
    const label = make('label', {for: 'at-step'});
    const show = () => {
        label.textContent = `after step ${steps[slider.value]}`;
        slider.setAttribute('aria-valuetext', label.textContent);
        for (const trace of traces) trace.show(+slider.value);
    };
    slider.addEventListener('input', show);
    place.append(label, slider);
    show();
}

document.documentElement.classList.add('script');
for (const svg of all('svg.plot')) new Plot(svg);
addSwitches();
for (const place of all('.slider')) addSlider(place);
