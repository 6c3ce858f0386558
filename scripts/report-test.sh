#!/usr/bin/env bash
# Looks at the pages of `cgk report` in Chromium: at three widths nothing is wider than the screen, the style counts, nothing
# is refused by the page's own policy, and it prints. Installs chromium where that takes no questions: on Debian, as root.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -qq chromium >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y -qq chromium >/dev/null; }
fi
command -v chromium >/dev/null || {
    echo "chromium is needed: sudo apt-get install chromium (Debian)" >&2
    exit 1
}
chromium --version
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
chmod 755 "$pages"
CGK_REPORT_PAGES=$pages cargo test --test operations -- report::states:: report::large::

browse() {
    # Each page is its own origin on disk; the frame around it may look inside here only.
    timeout 120 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$pages/profile" \
        --disable-web-security --allow-file-access-from-files --virtual-time-budget=20000 "$@" 2>/dev/null
}

# The control is a page that must be found too wide.
echo '<!DOCTYPE html><style>p { width: 2000px }</style><p>wide</p>' >"$pages/control.html"
failed=0
for page in control states growth empty large; do
    for width in 360 800 1400; do
        frame=$pages/frame.html
        cat >"$frame" <<HTML
<!DOCTYPE html><body><iframe src="$page.html" width="$width" height="900" style="border:0"></iframe><p id="answer"></p>
<script>
onload = () => {
  const inside = document.querySelector("iframe").contentDocument, root = inside.documentElement;
  const found = [];
  if (root.scrollWidth > $width) found.push("it is " + root.scrollWidth + " wide");
  for (const element of inside.querySelectorAll("body *")) {
    if (element.closest(".scroll, .skip, svg")) continue;
    if (element.getBoundingClientRect().right > $width + 1) found.push(element.tagName + " is too wide");
  }
  const styled = inside.defaultView.getComputedStyle(inside.body).margin === "0px";
  if (!styled && "$page" !== "control") found.push("the style does not count");
  document.getElementById("answer").textContent = (found.length ? found.slice(0, 5).join("; ") : "good");
};
</script>
HTML
        answer=$(browse --window-size=1500,1000 --dump-dom "file://$frame" | grep -o 'id="answer">[^<]*' | cut -d '>' -f 2 || true)
        case $page:$answer in
        control:"it is "*) ;;
        control:*) echo "the control is not found too wide at $width: $answer" >&2; failed=1 ;;
        *:good) echo "$page at $width: good" ;;
        *) echo "$page at $width: ${answer:-no answer}" >&2; failed=1 ;;
        esac
    done
done
for page in states large; do
    browse --no-pdf-header-footer --print-to-pdf="$pages/$page.pdf" "file://$pages/$page.html" >/dev/null
    [ -s "$pages/$page.pdf" ] || { echo "$page does not print" >&2; failed=1; }
    if [ -n "${CGK_REPORT_KEEP:-}" ]; then cp "$pages/$page.pdf" "$pages/$page.html" "$CGK_REPORT_KEEP/"; fi
done
exit $failed
