#!/usr/bin/env bash
# Pictures of a whole page, light and dark, wide and narrow, beside it. Usage: screenshots.sh CHROMIUM PAGE
set -euo pipefail
chromium=$1
page=$(realpath "$2")
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
frame="$profile/frame.html"

# a headless window is at least 500 px wide, so the page goes into a frame, which tells its height
framed() { # width height
    echo "<!DOCTYPE html><title></title><body style='margin:0'><iframe style='border:0' width=$1 height=$2" \
        "src='file://$page' onload='document.title = contentDocument.documentElement.scrollHeight'></iframe>" >"$frame"
}
run() { # scheme, options
    "$chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
        --disable-background-networking --disable-component-update --disable-sync \
        --user-data-dir="$profile/user-$1" --hide-scrollbars --allow-file-access-from-files \
        "${@:2}" "file://$frame" 2>/dev/null
}

for width in 1200 390; do
    framed "$width" 1
    height=$(run height --dump-dom | sed -n 's:.*<title>\([0-9]\{1,\}\)</title>.*:\1:p')
    framed "$width" "${height:?the page told no height}"
    for scheme in 0:dark 1:light; do
        run "${scheme#*:}" --blink-settings=preferredColorScheme="${scheme%:*}" \
            --window-size="$width,$height" --screenshot="${page%.html}-$width-${scheme#*:}.png"
    done
done
