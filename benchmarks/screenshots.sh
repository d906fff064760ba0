#!/usr/bin/env bash
# Pictures of a page, light and dark, wide and narrow, beside it. Usage: screenshots.sh CHROMIUM PAGE
set -euo pipefail
chromium=$1
page=$(realpath "$2")
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT

for width in 1200 390; do
    for scheme in 0:dark 1:light; do
        # a headless window is at least 500 px wide, so the narrow page goes into a frame
        frame="$profile/frame.html"
        height=$((width == 390 ? 12000 : 8400))
        echo "<!DOCTYPE html><body style='margin:0'><iframe style='border:0' width=$width height=$height src='file://$page'></iframe>" >"$frame"
        "$chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
            --disable-background-networking --disable-component-update --disable-sync \
            --user-data-dir="$profile/user-$width-${scheme#*:}" --hide-scrollbars \
            --blink-settings=preferredColorScheme="${scheme%:*}" \
            --window-size="$width,$height" --screenshot="${page%.html}-$width-${scheme#*:}.png" \
            "file://$frame" 2>/dev/null
    done
done
