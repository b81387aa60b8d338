#!/bin/sh
# A report in a real browser: Debian's chromium, without a window. Usage: test_report.sh TRAIN
# A copy of the page, without its policy against scripts, gets a script of ours that measures it. So this tests the
# escaping, not the policy. SHOTS=DIR keeps a picture of each look, and a PDF, for the eyes.
train=$1
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$chromium" ]; then
    echo "skip test_report: chromium is not there (apt-get install chromium)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT INT TERM
passed=0 failed=0

check() {                                                  # what, a test's arguments
    what=$1
    shift
    if test "$@"; then passed=$((passed + 1)) && echo "ok   $what"
    else failed=$((failed + 1)) && echo "FAIL $what: $*"; fi
}

# Rows that would do harm if they were read as HTML. A line that ends in \ goes on in the next one.
i=0
while [ $i -lt 16 ]; do
    sed -e ':line' -e '/\\$/{N; s/\\\n *//; b line' -e '}' <<'EOF'
{"messages": [{"role": "system", "content": "</title></style><img src=x onerror=\"document.title='ran'\">"}, \
    {"role": "user", "content": "<script>document.title='ran'</script> & \u202Eright to left\u202C שלום \
    <svg onload=\"document.title='ran'\"> \
    averyveryverylongwordwithoutanyspaceinitatallwhichcouldpushthepagewiderthanthephoneis"}, \
    {"role": "assistant", "content": "</bdi></dd><b>plant</b>"}]}
{"messages": [{"role": "user", "content": "Name the kind: <!-- \u0001 ' \" -->"}, \
    {"role": "assistant", "content": "food"}]}
EOF
    i=$((i + 1))
done >"$dir/rows.jsonl"
cat >"$dir/config.json" <<EOF
{"model_name_or_path": "model/tiny", "dataset_name": "$dir/rows.jsonl", "eval_split": 0.5, "max_steps": 4,
 "eval_steps": 1, "max_length": 256, "learning_rate": 1e-3,
 "per_device_train_batch_size": 2, "n_threads": 1, "output_dir": "$dir/out"}
EOF
if ! "$train" compare "$dir/config.json" --seeds=2 >"$dir/log" 2>&1; then
    cat "$dir/log"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi

cat >"$dir/probe.js" <<'EOF'
{
let errors = 0, alerts = 0;
addEventListener('error', () => errors++, true);
addEventListener('securitypolicyviolation', () => errors++);
window.alert = () => alerts++;
const parse = c => { const v = c.match(/[\d.]+/g).map(Number); return v.length > 3 ? v : [...v, 1]; };
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => sum + share * linear(c[i] / 255), 0);
function background(e) {
    if (!e) return [255, 255, 255];
    return over(parse(getComputedStyle(e).backgroundColor), background(e.parentElement));
}
function contrast(e) {
    const style = getComputedStyle(e), below = background(e);
    const a = light(over(parse(e.ownerSVGElement ? style.fill : style.color), below)), b = light(below);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
const all = (what, inside = document) => [...inside.querySelectorAll(what)];
const hasText = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
const isCurve = l => +getComputedStyle(l).strokeWidth.replace('px', '') === 2 && l.getTotalLength() > 150;
const visible = what => all(what).filter(e => e.getClientRects().length);
const count = (list, test) => list.filter(test).length + '/' + list.length;
// What the script adds: it moves the slider to both ends, points at a curve, takes a line out, changes a scale.
function use() {
    const slider = document.querySelector('.slider input'), svg = document.querySelector('svg.plot');
    if (!slider) return 'none';
    const losses = () => all('.live [data-loss]').map(t => t.querySelector('i').textContent);
    const want = at => all('.live [data-loss]').map(t => (+t.dataset.loss.trim().split(' ')[at]).toFixed(1));
    const moved = [slider.min, slider.max].every(at => {
        slider.value = at;
        slider.dispatchEvent(new Event('input'));
        return losses().join() === want(+at).join() && document.querySelector('.slider label').textContent;
    });
    const box = svg.getBoundingClientRect(), y = svg.querySelector('.curve').getAttribute('d');
    svg.dispatchEvent(new PointerEvent('pointermove', {clientX: box.right - 5, clientY: box.top + 50}));
    const tip = svg.parentElement.querySelector('.tip');
    const last = document.querySelector('.final tbody tr:nth-child(2) td');
    const points = !tip.hidden && tip.textContent.includes(last.querySelector('span').textContent);
    document.querySelector('.legend button').click();
    const off = visible('[data-line=arm0] .curve').length === 0;
    document.querySelector('.legend button').click();
    svg.parentElement.querySelector('.scale button').click();
    return [moved, points, off, y !== svg.querySelector('.curve').getAttribute('d')].join();
}
const isNamed = e => e.getAttribute('aria-label') ||
    document.getElementById((e.getAttribute('aria-labelledby') || '').split(' ')[0]);
addEventListener('load', () => {
    for (const d of all('details')) d.open = true;
    const root = document.documentElement, plots = all('svg.plot');
    const texts = all('body *').filter(e => e.getClientRects().length && hasText(e));
    const worst = texts.reduce((w, e) => contrast(e) < contrast(w) ? e : w);
    const page = document.body.innerText;
    const hostile = ["\x3cscript>document.title='ran'\x3c/script> &", '[U+202E]right to left[U+202C]',
        '\x3c!-- [U+0001]'];
    const result = {
        ran: document.title === 'ran' || alerts > 0, errors, width: innerWidth, overflow: root.scrollWidth - innerWidth,
        screen: document.querySelector('header').getBoundingClientRect().bottom <= innerHeight,
        plots: count(plots, p => p.getBoundingClientRect().width > 200 && p.getBBox().width > 250),
        lines: count(all('header svg.plot'), p => all('path', p).filter(isCurve).length === 2),
        bands: count(all('header svg.plot'), p => all('polygon', p).length === 2),
        stills: visible('.still').length, traces: all('.trace').length, use: use(),
        shown: hostile.every(text => page.includes(text)),
        dark: matchMedia('(prefers-color-scheme: dark)').matches && light(background(document.body)) < 0.1,
        unnamed: all('svg[role=img], [role=region]').filter(e => !isNamed(e)).length,
        twice: all('[id]').filter((e, i, list) => list.some((o, k) => k !== i && o.id === e.id)).length,
        headless: all('table').filter(t => !t.caption || !t.querySelector('th[scope=col]')).length,
        contrast: contrast(worst) >= 4.5 ? 'good' : contrast(worst).toFixed(2) + ':' + worst.textContent.slice(0, 20),
    };
    const report = Object.entries(result).map(([k, v]) => k + '=' + String(v).replace(/\s/g, '_')).join(' ');
    root.setAttribute('data-probe', report);
    if (parent !== window) parent.postMessage(report, '*');
});
}
EOF
probe='
    /Content-Security-Policy/ { getline; next }
    /^<head>$/ { print; print "<script>"; while ((getline line < probe) > 0) print line; print "</script>"; next }
    { print }'
awk -v probe="$dir/probe.js" "$probe" "$dir/out/report.html" >"$dir/probed.html"
sed '/^<script>/,/^<\/script>/d' "$dir/out/report.html" | awk -v probe="$dir/probe.js" "$probe" >"$dir/bare.html"

# Chromium's windows are never narrower than 500 pixels, but a frame in one may be.
cat >"$dir/phone.html" <<'EOF'
<!doctype html>
<html><body><iframe src="probed.html" width="390" height="844"></iframe>
<script>addEventListener('message', e => document.documentElement.setAttribute('data-probe', e.data));</script>
</body></html>
EOF

# More of chromium's flags, and a page of $dir. The page's elements go to dom.html, chromium's messages to console.
browse() {
    timeout 120 "$chromium" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --user-data-dir="$dir/profile" --enable-logging=stderr "$@" \
        >"$dir/dom.html" 2>"$dir/console"
}

# name, page, more of chromium's flags; $found gets what the probe found.
look() {
    name=$1 file=$2
    shift 2
    browse --window-size=1200,900 "$@" --dump-dom "file://$dir/$file"
    [ -z "$SHOTS" ] || timeout 120 "$chromium" --headless --no-sandbox --disable-gpu --user-data-dir="$dir/profile" \
        --window-size="${SIZE:-1280,6000}" "$@" --screenshot="$SHOTS/$name.png" "file://$dir/$file" 2>/dev/null
    found=" $(sed -n '1,/<html/s/.*data-probe="\([^"]*\)".*/\1/p' "$dir/dom.html") "
    check "$name: it loads" -n "$(echo "$found" | grep plots=)"
    check "$name: nothing on the console" -z "$(grep -i 'CONSOLE' "$dir/console")"
}
value() { echo "$found" | grep -o " $1=[^ ]*" | cut -d= -f2-; }

common() {
    check "$1: no script of a row's ran" "$(value ran)$(value errors)" = false0
    check "$1: hostile text is shown" "$(value shown)" = true
    check "$1: nothing is wider than the window" "$(value overflow)" -le 0
    check "$1: contrast of all text" "$(value contrast)" = good
    check "$1: regions, pictures and tables have names" "$(value unnamed)$(value twice)$(value headless)" = 000
    plots=$(value plots)
    check "$1: all curves are drawn" "${plots%/*}" = "${plots#*/}"
    check "$1: the first two have two lines and two bands" "$(value lines) $(value bands)" = "2/2 2/2"
    check "$1: question, answer and two curves on the first screen" "$(value screen)" = true
}

look light probed.html
common light
traces=$(value traces)
check "light: the slider, values under the pointer, a line off, another scale" "$(value use)" = true,true,true,true
check "light: the slider stands for the stills" "$traces $(value stills)" = "4 0"
check "light: it is light" "$(value dark)" = false
look dark probed.html --blink-settings=preferredColorScheme=0
common dark
check "dark: it is dark" "$(value dark)" = true
look phone phone.html
check "phone: 390 pixels" "$(value width)" = 390
common phone

look bare bare.html
common bare
check "without script: three stills a row and arm, no slider" "$(value stills) $(value use)" = "$((3 * traces)) none"

# The page as it is: its own policy must not forbid what it needs, and must not let other scripts run.
browse --dump-dom "file://$dir/out/report.html"
check "as it is: nothing on the console" -z "$(grep -i 'CONSOLE' "$dir/console")"
check "as it is: its script ran" -n "$(grep -o '<input type="range"' "$dir/dom.html")"
sed 's/^<body>$/<body><script>document.title = "ran"<\/script>/' "$dir/out/report.html" >"$dir/foreign.html"
browse --dump-dom "file://$dir/foreign.html"
check "as it is: a foreign script does not run" -z "$(grep '<title>ran' "$dir/dom.html")"
[ -z "$SHOTS" ] || browse --no-pdf-header-footer --print-to-pdf="$SHOTS/print.pdf" "file://$dir/out/report.html"

echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
