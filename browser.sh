#!/usr/bin/env bash
# Chromium for the tests that look at pages. Does nothing where it is there already.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  if path=$(command -v "$name"); then echo "browser: $path"; exit 0; fi
done
sudo=()
if [ "$(id -u)" != 0 ]; then sudo=(sudo -n); fi
if ! command -v apt-get >/dev/null || ! "${sudo[@]}" true 2>/dev/null; then
  echo "browser: no Chromium here, and apt-get or the right to use it is missing; install the package 'chromium' of your" \
    "system, or Google Chrome" >&2
  exit 1
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium
command -v chromium
